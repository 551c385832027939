"""Studies that the tests run, and what is compared of them; as a script, workers in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from functools import partial

import torch

import unitrain
from unitrain import TrainSpec

INPUT = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
TARGET = INPUT @ torch.tensor([[1.0], [2.0], [-1.0], [0.5]])
DATA = torch.utils.data.TensorDataset(INPUT, TARGET)
TRAIN = torch.utils.data.DataLoader(DATA, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(5))
VAL = torch.utils.data.DataLoader(DATA, batch_size=16)
EPOCHS = 4


def make_spec(trial):
    rate = trial.suggest_float("lr", 1e-3, 0.02, log=True)
    width = trial.suggest_int("width", 2, 12)
    drop = trial.suggest_categorical("drop", [0.0, 0.1])
    layers = [torch.nn.Linear(4, width), torch.nn.Dropout(drop), torch.nn.Linear(width, 1)]
    return TrainSpec(
        model=torch.nn.Sequential(*layers),
        loss=torch.nn.MSELoss(),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=0.9),
    )


def mixed(trial):
    return ("ignite", "lightning", "reference")[trial.number % 3]


def study(**changes):
    """Run a study, with ``changes`` to its arguments, as in a process of its own: other tests draw from the data, too."""
    TRAIN.generator.manual_seed(5)
    given = {
        "n_trials": 8,
        "monitor": "val/loss",
        "framework": "ignite",
        "trainer": {"max_epochs": EPOCHS},
        "pruner": "median",
        "enable_progress_bar": False,
        **changes,
    }
    return unitrain.tune(given.pop("make_spec", make_spec), TRAIN, VAL, **given)


def rows(result):
    """Return what must be equal of two studies."""
    found = []
    for one in result.trials:
        reported = sorted(one.intermediate_values.items())
        found.append((one.number, one.state.name, one.values, sorted(one.params.items()), reported))
    return found


def weights(result):
    """Return the last weights of each trial, by its number."""
    return {one.number: unitrain.load_weights(result.plan.folder(one.number) / "last.ckpt") for one in result.trials}


def equal(result, other):
    """Return whether two studies have equal trials and equal weights."""
    if rows(result) != rows(other):
        return False
    mine, theirs = weights(result), weights(other)
    return all(
        torch.equal(value, theirs[number][name]) for number, found in mine.items() for name, value in found.items()
    )


def killed_at(place, count):
    """Kill this process, as a machine that fails does, at the n-th time that it comes to a place."""
    from unitrain.tuning import study_trial
    from unitrain.utilities import files

    owner, name = {
        "report": (study_trial.StudyTrial, "report"),
        "save": (files, "put"),
        "tell": (study_trial.StudyTrial, "tell"),
    }[place.partition("-")[0]]
    original, times = getattr(owner, name), iter(range(count))

    def patched(*args, **kwargs):
        before = place.endswith("before")
        last = next(times, None) is None
        if last and before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*args, **kwargs)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, patched)


def worked(order):
    """Run a study as a worker does, and be killed, or save at each epoch, as the order says."""
    torch.set_num_threads(1)
    if "kill" in order:
        killed_at(*order.pop("kill"))
    if order.pop("saves", False):
        import unitrain.tuning.trial_checkpoints

        unitrain.tuning.trial_checkpoints._SAVE_EVERY = 0.0
    os.chdir(order.pop("folder"))
    study(**order)


def forked(order):
    """Start a worker as a copy of this process, which has imported everything, and return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        worked(order)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    for _framework in ("ignite", "lightning"):  # imports all that they need
        study(n_trials=1, framework=_framework, study_name=_framework)
    for _line in sys.stdin:
        _order = json.loads(_line)
        _answer = os.waitpid(_order, 0)[1] if isinstance(_order, int) else forked(_order)
        sys.stdout.write(f"{_answer}\n")
        sys.stdout.flush()
