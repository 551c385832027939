"""Processes that a redirected script starts: those that would train on Ignite itself are refused by name."""

import functools
import multiprocessing
from multiprocessing.process import BaseProcess

import ignite.distributed as idist
import ignite.engine
import pytest
import torch
from ignite.distributed import spawn
from ignite.distributed.comp_models import registered_computation_models
from ignite.engine import Engine, create_supervised_trainer
from torch import nn

from tests.bridges.ignite_runs import AWAY
from unitrain import cli
from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.ignite.bridge import IgniteBridge
from unitrain_bridges.ignite.processes import processes_refused

SPAWN = multiprocessing.get_context("spawn")


def training(rank, *_):
    Engine(lambda engine, batch: None).run([1])


def by_a_function(rank):
    training(rank)


def by_a_nested_one(rank):
    def inner():
        return create_supervised_trainer(nn.Linear(1, 1), None, None)

    inner()


def by_a_module(rank):
    return ignite.engine.Engine(print).run([rank])


def by_an_import(rank):
    from ignite.engine import Engine as Own

    Own(print).run([rank])


class Trainer:
    def fit(self, rank):
        self.inner(rank)

    def inner(self, rank):
        training(rank)


def by_a_class(rank):
    Trainer().fit(rank)


def cleaning(rank):
    return torch.ones(rank).sum(), idist.get_rank()


class Training(SPAWN.Process):
    def run(self):
        training(0)


class Cleaning(SPAWN.Process):
    def run(self):
        cleaning(0)


LAUNCHES = {
    "Parallel": (lambda: idist.Parallel(backend="gloo", nproc_per_node=2), "idist.Parallel(backend='gloo', nproc"),
    "one": (lambda: idist.Parallel("gloo", 1), "idist.Parallel(backend='gloo', nproc_per_node=1)"),
    "spawn": (lambda: idist.spawn("gloo", training, args=(), nproc_per_node=3), "idist.spawn('gloo', nproc"),
    "imported": (lambda: spawn("gloo", training, (), nproc_per_node=2), "idist.spawn('gloo', nproc_per_node=2)"),
    "torch": (lambda: torch.multiprocessing.spawn(training, nprocs=2), "a process that runs training()"),
}


@pytest.mark.parametrize("framework", AWAY)
@pytest.mark.parametrize("name", LAUNCHES)
def test_a_launcher_is_refused(name, framework):
    launch, told = LAUNCHES[name]
    with IgniteBridge().redirected(framework), pytest.raises(UnsupportedFeatureError) as refused:
        launch()
    assert told in str(refused.value)
    assert f"instead of {framework!r}" in str(refused.value)
    assert "devices=3" in refused.value.hint if name == "spawn" else "devices=2" in refused.value.hint


TRAIN = [training, by_a_function, by_a_nested_one, by_a_module, by_an_import, by_a_class, Trainer().fit]


@pytest.mark.parametrize("target", [*TRAIN, functools.partial(training, 0)])
def test_a_process_that_runs_engines_is_refused(target):
    with processes_refused("lightning"), pytest.raises(UnsupportedFeatureError, match="a process that runs"):
        SPAWN.Process(target=target, args=(0,)).start()
    with processes_refused("lightning"), pytest.raises(UnsupportedFeatureError, match=r"runs Training.run\(\)"):
        Training().start()


@pytest.fixture
def started(monkeypatch):
    """Return the processes that were started, none of which runs."""
    found = []
    monkeypatch.setattr(BaseProcess, "start", found.append)
    return found


def test_other_processes_start(started):
    fork = multiprocessing.get_context("fork")
    processes = [SPAWN.Process(target=cleaning, args=(1,)), Cleaning(), fork.Process(target=training, args=(0,))]
    with processes_refused("lightning"):
        for process in processes:
            process.start()
    assert started == processes


def test_the_default_way_to_start_counts(started, monkeypatch):
    process = multiprocessing.Process(target=training)
    for method, refused in (("fork", False), ("forkserver", True)):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda method=method, **_: method)
        started.clear()
        try:
            with processes_refused("lightning"):
                process.start()
        except UnsupportedFeatureError:
            assert refused
        assert len(started) == (not refused)


def test_a_single_process_is_not_refused():
    ran = []
    with IgniteBridge().redirected("reference"), idist.Parallel(backend=None) as parallel:
        parallel.run(ran.append)
    assert ran == [0]
    with IgniteBridge().redirected("reference"), pytest.raises(ValueError, match="If backend is None"):
        idist.Parallel(nproc_per_node=2)


def test_launchers_are_put_back():
    owners = [idist.Parallel, BaseProcess, *registered_computation_models]
    before = [dict(vars(one)) for one in owners]
    with IgniteBridge().redirected("reference"):
        assert [dict(vars(one)) for one in owners] != before
    assert [dict(vars(one)) for one in owners] == before
    with IgniteBridge().redirected("ignite"):
        assert [dict(vars(one)) for one in owners] == before


SCRIPT = """
import ignite.distributed as idist
from ignite.engine import Engine

def training(rank):
    Engine(lambda engine, batch: None).run([1])

if __name__ == "__main__":
    with idist.Parallel(backend="gloo", nproc_per_node=2) as parallel:
        parallel.run(training)
"""


def test_a_script_is_refused_with_its_line(tmp_path, capsys):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert cli.main(["run", str(script), "--framework", "reference"]) == 1
    told = capsys.readouterr().err
    assert "unitrain run: idist.Parallel(backend='gloo', nproc_per_node=2)" in told
    assert f"at {script}:9" in told
