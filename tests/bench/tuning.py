"""What a study costs beside the fits in it, and beside plain Optuna."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import optuna
import torch

import unitrain
from tests.servers import running_redis
from unitrain import TrainSpec, UnifiedTrainer
from unitrain.run.result import FitResult
from unitrain.tuning.storage.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from unitrain.tuning.study_trial import StudyTrial

TRIALS, JOINED = 400, 1000
REPORTS, PARAMETERS = 3, 4
MIB = 2**20

Row = dict[str, Any]


def row(work: str, on: str, reached: float, limit: float) -> Row:
    """Return what was reached beside its goal."""
    return {"work": work, "on": on, "reached": reached, "limit": limit, "met": reached <= limit}


def suggested(trial: Any) -> float:
    """Draw the parameters, and report some values."""
    value = sum(trial.suggest_float(f"p{index}", 0.0, 1.0) for index in range(PARAMETERS))
    return float(value)


def objective(trial: Any) -> float:
    """Be a trial whose training costs nothing, in plain Optuna."""
    value = suggested(trial)
    for step in range(REPORTS):
        trial.report(value, step)
        trial.should_prune()
    return value


def nothing_trained(context: Any, trial: StudyTrial) -> FitResult:
    """Be a trial whose training costs nothing, within a study of unitrain."""
    value = suggested(trial.suggests)
    for step in range(REPORTS):
        trial.report(value, step)
        trial.should_prune()
    return FitResult(metrics={}, history=[], epoch=0, step=0, stopped_by="max_epochs", framework="", native=None)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def least(pairs: Iterable[tuple[float, float]]) -> float:
    """Return the ratio of the shortest times: what else a machine does only ever adds to a time."""
    mine, theirs = zip(*pairs, strict=True)
    return min(mine) / min(theirs)


def theirs(url: str, prefix: str) -> Any:
    """Return Optuna's own storage."""
    journal = optuna.storages.journal
    if url.startswith("redis"):
        backend: Any = journal.JournalRedisBackend(url, prefix=prefix)
    else:
        backend = journal.JournalFileBackend(f"{Address.of(url).path}.{prefix}")
    return optuna.storages.JournalStorage(backend)


def bare(url: str, name: str) -> None:
    """Run a study as Optuna does."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=theirs(url, name), study_name=name, sampler=sampler)
    study.optimize(objective, n_trials=TRIALS)


def ours(url: str, name: str, trials: int = TRIALS) -> None:
    """Run the same study with unitrain."""
    with patch("unitrain.tuning.trial._fitted", nothing_trained):
        unitrain.tune(
            print, [], n_trials=trials, monitor="train/loss", framework="reference", sampler="random", pruner="median",
            storage=url, study_name=name, dirpath=f"{name}-{trials}", enable_progress_bar=False,
        )  # fmt: skip


def machinery(url: str, rounds: int) -> float:
    """Return the ratio of a study's own work to that of plain Optuna."""
    kind, pairs = url.partition(":")[0], []
    ours(url.replace("study", "first"), f"first-{kind}", 2)  # imports what a first study needs
    for index in range(rounds):
        own = url.replace("/0", f"/{index + 1}").replace("study", f"study-{index}")  # an empty one each time
        mine = seconds(partial(ours, own, f"ours-{kind}-{index}"))
        pairs.append((mine, seconds(partial(bare, own, f"bare-{kind}-{index}"))))
    return least(pairs)


def joining(url: str) -> float:
    """Return the ratio of reading a study of 1,000 trials to Optuna's, without its pickled snapshot."""
    backend = Address.of(url).opened()._backend
    study = optuna.create_study(storage=theirs(url, "unitrain"), study_name="joined")
    study.optimize(objective, n_trials=JOINED)
    backend._client.delete("unitrain:snapshot")
    mine = median(seconds(Address.of(url).opened) for _ in range(3))
    return mine / median(seconds(partial(theirs, url, "unitrain")) for _ in range(3))


DATA = [(torch.randn(64, 32), torch.randn(64, 1)) for _ in range(200)]


def make_spec(trial: Any) -> TrainSpec:
    """Return a model whose fit takes some seconds."""
    rate = 0.01 if trial is None else trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    model = torch.nn.Sequential(torch.nn.Linear(32, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
    return TrainSpec(model=model, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=rate))


OPTIONS = {"max_epochs": 20}


def fits(framework: str) -> None:
    """Train four times, as without a study."""
    for _ in range(4):
        UnifiedTrainer(framework, enable_progress_bar=False, **OPTIONS, seed=0).fit(make_spec(None), DATA)


def study(framework: str, **changes: Any) -> Any:
    """Train four trials."""
    given = {"n_trials": 4, "monitor": "train/loss", "framework": framework, "trainer": OPTIONS, "parallel": 2}
    return unitrain.tune(make_spec, DATA, enable_progress_bar=False, **{**given, **changes})


def around_a_fit(framework: str, rounds: int) -> float:
    """Return the ratio of a study to its fits."""
    fits(framework)
    study(framework)  # imports what a first study needs
    return least((seconds(partial(study, framework)), seconds(partial(fits, framework))) for _ in range(rounds))


def two_workers(rounds: int) -> float:
    """Return the ratio of the time of two workers, with their start, to that of one, for 24 trials of some seconds each."""

    def run(name: str, workers: int) -> float:
        given = {"trainer": {"max_epochs": 30}, "n_trials": 24, "workers": workers}
        return seconds(partial(study, "ignite", **given, storage=f"journal:///{name}.log", study_name=name))

    return least((run(f"two-{index}", 2), run(f"one-{index}", 1)) for index in range(rounds))


KILLED = {"n_trials": 1, "trainer": {"max_epochs": 12}, "study_name": "killed"}
"""A study of one trial of twelve epochs of some tenths of a second each."""


def victim(url: str) -> None:
    """Train the trial that is killed, in a process of its own."""
    heavier()
    study("ignite", **KILLED, storage=url, dirpath="killed")


def heavier() -> None:
    """Make an epoch five times longer."""
    DATA.extend(DATA * 4)


def beyond_an_epoch() -> float:
    """Return the seconds that a kill costs beyond the epoch that is trained again: to notice, take over and resume."""
    url, epochs = "journal:///killed.log", KILLED["trainer"]["max_epochs"]  # type: ignore[index]
    study("ignite", n_trials=1, trainer={"max_epochs": 1})  # imports what a first study needs
    heavier()
    whole = seconds(partial(study, "ignite", **{**KILLED, "study_name": "whole"}, storage="journal:///whole.log"))
    command = [sys.executable, "-c", f"from tests.bench.tuning import victim; victim({url!r})"]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        done = 0
        while done < epochs // 2:
            time.sleep(whole / epochs / 10)
            done = reported(url)
        process.kill()
    rest = seconds(partial(study, "ignite", **KILLED, storage=url, dirpath="killed"))
    return rest - whole * (epochs - done + 1) / epochs


def reported(url: str) -> int:
    """Return after how many epochs the killed trial has reported."""
    if not Path(Address.of(url).path).exists():
        return 0
    try:
        trials = optuna.load_study(storage=Address.of(url).opened(), study_name="killed").trials
    except KeyError:
        return 0
    return len(trials[0].intermediate_values) if trials else 0


def alone(name: str) -> float:
    """Return what a function of this module returns in a process that has done nothing before."""
    command = [sys.executable, "-c", f"from tests.bench.tuning import {name}; print({name}())"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def growth() -> float:
    """Return the growth of this process from trial 20 to trial 70, in MiB."""
    held = {}

    def noted(trial: Any) -> TrainSpec:
        if trial.number in (20, 70):
            gc.collect()
            held[trial.number] = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf(
                "SC_PAGE_SIZE"
            )
        return make_spec(trial)

    unitrain.tune(
        noted, DATA[:8], n_trials=71, monitor="train/loss", framework="ignite", trainer={"max_epochs": 1},
        sampler="random", enable_progress_bar=False,
    )  # fmt: skip
    return (held[70] - held[20]) / MIB


def compared(rounds: int) -> Iterator[Row]:
    """Yield what was reached, and the goals."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with TemporaryDirectory() as folder, ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Path.cwd()
        os.chdir(folder)
        stack.callback(os.chdir, before)
        (Path(folder) / "redis").mkdir()
        url = stack.enter_context(running_redis(Path(folder) / "redis")).url
        for framework in ("ignite", "lightning"):
            yield row("trials around fits", framework, around_a_fit(framework, max(3, rounds // 3)), 1.05)
        yield row("400 trials of nothing", "redis", machinery(url, max(3, rounds // 2)), 1.1)
        yield row("400 trials of nothing", "file", machinery("journal:///study.log", max(3, rounds // 2)), 1.1)
        yield row("joining 1,000 trials", "redis", joining(url), 0.25)
        yield row("two workers", "ignite", two_workers(1), 0.6)
        yield row("growth of 50 trials, MiB", "ignite", median(alone("growth") for _ in range(3)), 2.0)
        yield row("a kill, s beyond an epoch", "ignite", alone("beyond_an_epoch"), 3.0)
