"""What a study costs beside the fits in it, and beside plain Optuna."""

from __future__ import annotations

import gc
import os
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
    from collections.abc import Callable, Iterator

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
    kind, ratios = url.partition(":")[0], []
    ours(url.replace("study", "first"), f"first-{kind}", 2)  # imports what a first study needs
    for index in range(rounds):
        own = url.replace("/0", f"/{index + 1}").replace("study", f"study-{index}")  # an empty one each time
        mine = seconds(partial(ours, own, f"ours-{kind}-{index}"))
        ratios.append(mine / seconds(partial(bare, own, f"bare-{kind}-{index}")))
    return median(ratios)


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
    return median(seconds(partial(study, framework)) / seconds(partial(fits, framework)) for _ in range(rounds))


def two_workers() -> float:
    """Return the ratio of the time of two workers to that of one, for trials of about two seconds each."""
    options = {"max_epochs": 80}
    given = {"trainer": options, "n_trials": 12}
    one = seconds(partial(study, "ignite", **given, storage="journal:///one.log", study_name="one"))
    return seconds(partial(study, "ignite", **given, workers=2, storage="journal:///two.log", study_name="two")) / one


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
        yield row("400 trials of nothing", "redis", machinery(url, max(1, rounds // 3)), 1.1)
        yield row("400 trials of nothing", "file", machinery("journal:///study.log", max(1, rounds // 3)), 1.1)
        yield row("joining 1,000 trials", "redis", joining(url), 0.25)
        yield row("two workers", "ignite", two_workers(), 0.6)
        yield row("growth of 50 trials, MiB", "ignite", growth(), 2.0)
