"""unitrain starts the processes by itself, and the parent gets everything back."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from unitrain import (
    DDP,
    ConfigError,
    DistributedError,
    Event,
    LRFinder,
    ModelCheckpoint,
    PredictionWriter,
    SpecError,
    UnifiedTrainer,
    UnsupportedFeatureError,
    errors,
    load_weights,
)
from unitrain.distributed.health.failure import Failure
from unitrain.distributed.launch import job_files
from unitrain.distributed.strategies.batchnorm import synchronized
from unitrain.errors import UnitrainError
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

HERE = Path(__file__).parent


def script(name, *arguments):
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def reached(tmp_path_factory):
    found = {}
    for framework in ("ignite", "lightning"):
        folder = tmp_path_factory.mktemp(framework)
        ended = script("launched.py", framework, folder)
        assert ended.returncode == 0, ended.stderr
        found[framework] = folder, torch.load(folder / "result.pt", weights_only=True), ended
    return found


def test_the_parent_gets_the_same_from_both_backends(reached):
    folders = [str(folder) for folder, _, _ in reached.values()]
    (_, ignite, _), (_, lightning, _) = reached.values()
    assert ignite["result"].pop() == "ignite"
    assert lightning["result"].pop() == "lightning"
    for part in ("weights", "optimizer", "result", "state"):
        assert not differences(ignite[part], lightning[part], part)
    assert [one.replace(folders[0], folders[1]) for one in ignite["best"][2]] == lightning["best"][2]
    assert ignite["log"] == lightning["log"]


def test_it_is_what_the_processes_reached(reached):
    for folder, got, _ in reached.values():
        metrics, history, epoch, step, stopped_by = got["result"][:5]
        assert (epoch, step, stopped_by, len(history)) == (2, 9, "max_epochs", 3)
        assert got["state"] == [2, 9, 9, metrics]
        assert {path.name for path in folder.glob("rank-*")} == {"rank-0-of-2", "rank-1-of-2"}
        best, score, kept = got["best"]
        assert best == kept[0]
        assert score == min(row["val/loss"] for row in history)
        assert {path.name for path in (folder / "kept").iterdir()} == {Path(one).name for one in kept} | {"last.ckpt"}
        assert not differences(load_weights(got["last"]), dict(got["weights"]))
        assert not differences(load_weights(folder / "afterwards.ckpt"), dict(got["weights"]))
        rows = got["log"].splitlines()
        assert len(rows) == 1 + 9 + 3  # the header, each step, each epoch


def test_evaluations_run_in_the_processes_too(reached):
    _, got, _ = reached["ignite"]
    assert got["validated"] == {name: value for name, value in got["result"][0].items() if name.startswith("val/")}
    assert got["predicted"].shape == (11, 5)


def test_progress_is_shown_once(reached):
    for _, _, ended in reached.values():
        assert [line.split()[1] for line in ended.stderr.splitlines() if line.startswith("epoch ")] == ["0", "1", "2"]


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so():
    ended = script("unguarded.py")
    assert ended.returncode != 0
    last = ended.stderr[ended.stderr.rindex("ConfigError") :]
    assert 'if __name__ == "__main__":' in last
    assert ended.stderr.count("ConfigError: each started process") == 1  # not by each process that was started


def launching(**changes):
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 1, "enable_progress_bar": False, **changes}
    return UnifiedTrainer("ignite", **options)


def test_what_cannot_be_sent_is_named():
    spec = cases.spec(training_step=lambda model, batch: model(batch[0]).sum())
    with pytest.raises(SpecError, match=r"spec\.training_step") as caught:
        launching().fit(spec, loader())
    assert "spec.model" not in str(caught.value)
    assert "torchrun" in caught.value.hint
    trainer = launching()
    trainer.on(Event.EPOCH_END, lambda run: None)
    with pytest.raises(SpecError, match="the handler 'test_what_cannot_be_sent_is_named"):
        trainer.fit(cases.spec(), loader())
    data = loader()
    data.worker_init_fn = lambda worker: None
    with pytest.raises(SpecError, match=r"train_dataloaders\.worker_init_fn"):
        launching().fit(cases.spec(), data)


OWN = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, UnitrainError)]


def travelled(error, folder):
    """Return what the parent raises for an error of rank 1."""
    job_files.report(folder, Failure.of(1, error))
    return job_files.first_failure(folder).raised()


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hint", [None, "devices=1", "one line,\nand another"], ids=["bare", "hint", "lines"])
def test_an_error_of_unitrain_reaches_the_parent_as_it_was(kind, hint, tmp_path):
    error = type("Special", (kind,), {})("devices=3.", hint=hint)
    error.add_note("as seen at batch 2")
    got = travelled(error, tmp_path)
    assert (type(got), str(got), got.hint) == (kind, str(error), hint)
    assert got.__notes__ == ["as seen at batch 2", "unitrain: raised on rank 1"]


@pytest.mark.parametrize("name", ["DataError", "ConfigError", "DistributedError"])
def test_an_error_that_only_has_the_name_of_one_of_unitrain_is_told_with_its_traceback(name, tmp_path):
    got = travelled(type(name, (Exception,), {})("of a database"), tmp_path)
    assert type(got) is DistributedError
    assert str(got).startswith(f"rank 1 failed with {name}; the others stopped.\n\n")
    assert "of a database" in str(got)


def test_other_hosts_cannot_be_reached_from_here():
    with pytest.raises(ConfigError, match="num_nodes=2") as caught:
        launching(num_nodes=2)
    assert "torchrun --nnodes=2 --nproc-per-node=2" in caught.value.hint


def test_an_object_that_no_run_would_use_is_not_built():
    with pytest.raises(ConfigError, match="the run happens in other processes"):
        launching().create_trainer()


def test_the_search_for_a_learning_rate_is_refused():
    with pytest.raises(UnsupportedFeatureError, match="LRFinder runs in a single process"):
        LRFinder().run(launching(), cases.spec(), loader())


def test_more_devices_than_there_are_are_refused_before_anything_is_started():
    with pytest.raises(ConfigError, match=r"accelerator='cuda'|there are"):
        launching(accelerator="cuda", devices=torch.cuda.device_count() + 2)


def test_a_port_that_is_taken_is_told_of():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        ended = subprocess.run(
            [sys.executable, str(HERE / "unguarded.py")],
            env={**os.environ, **place}, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert f"rank 0 of 2 could not join the process group at 127.0.0.1:{place['MASTER_PORT']}" in ended.stderr
    assert "is the port free" in ended.stderr


def test_batch_norms_are_of_all_processes_while_a_fit_lasts():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), nn.BatchNorm1d(4))
    own, names = [model[1][0], model[2]], [name for name, _ in model.named_parameters()]
    with synchronized(model):
        assert [type(one) for one in (model[1][0], model[2])] == [nn.SyncBatchNorm, nn.SyncBatchNorm]
        assert model[2].weight is own[1].weight
        assert model[2].running_mean is own[1].running_mean
        assert [name for name, _ in model.named_parameters()] == names
        model.eval()
    assert [model[1][0], model[2]] == own
    assert not own[1].training
    with pytest.raises(SpecError, match="the model itself is a batch norm"), synchronized(nn.BatchNorm1d(2)):
        pass


@pytest.mark.parametrize("value", ["ddpp", 3, "deepspeed"])
def test_an_unknown_strategy_is_refused(value):
    with pytest.raises(ConfigError, match=r"strategy must be one of 'auto', 'ddp', 'fsdp' or a Strategy"):
        launching(strategy=value)


def test_durations_must_be_durations():
    with pytest.raises(ConfigError, match="positive timedelta"):
        DDP(timeout=3)


def _slow(*row):
    """One refusal is enough for the quick tier: each starts two processes."""
    return pytest.param(*row, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("changes", "spec_changes", "samples", "error", "words"),
    [
        ({}, {"optimizer": cases.OPTIMIZERS["lbfgs"]}, 22, UnsupportedFeatureError, "an optimizer with a closure"),
        _slow({"sync_batchnorm": True}, {}, 22, ConfigError, "SyncBatchNorm only works on GPUs"),
        _slow({}, {}, 1, Exception, "1 samples for 2 processes"),
        _slow({"native": {"ddp": {"bukket": 3}}}, {}, 22, ConfigError, "DistributedDataParallel raised"),
    ],
)
def test_a_refusal_in_the_processes_is_raised_here_as_it_is(changes, spec_changes, samples, error, words):
    with pytest.raises(error, match=words):
        launching(**changes).fit(replace(cases.spec(), **spec_changes), loader(samples=samples))
    assert not isinstance(error, DistributedError)
    assert not [one for one in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_run_that_has_ended_gives_its_result_to_the_parent_too(tmp_path):
    options = {"max_epochs": 1, "devices": 2, "accelerator": "cpu", "seed": 0, "enable_progress_bar": False}
    trainer = UnifiedTrainer("ignite", callbacks=[ModelCheckpoint(tmp_path, save_last=True)], **options)
    result = trainer.fit(cases.spec(), loader())
    again = trainer.fit(cases.spec(), loader(), ckpt_path=tmp_path / "last.ckpt")
    assert (again.step, again.stopped_by, again.last_checkpoint) == (result.step, "max_epochs", result.last_checkpoint)


@pytest.mark.slow
def test_two_processes_predict_again_into_their_own_folder(tmp_path):
    options = {"devices": 2, "accelerator": "cpu", "seed": 0, "enable_progress_bar": False}
    trainer = UnifiedTrainer("ignite", max_epochs=1, callbacks=[PredictionWriter(tmp_path)], **options)
    trainer.predict(cases.spec(), loader(), return_predictions=False)
    before = sorted(path.name for path in tmp_path.iterdir())
    trainer.predict(cases.spec(), loader(), return_predictions=False)
    assert before == sorted(path.name for path in tmp_path.iterdir())
    assert {name[:6] for name in before} == {"rank-0", "rank-1"}
