"""Train on Lightning, kill the process, go on with Ignite: the weights are those of a run that never stopped.

A child process trains a small CNN on scikit-learn's digits with Lightning and writes a checkpoint every few optimizer
steps. It is killed in the middle of an epoch, as by a machine that loses its power. Ignite then goes on from the newest
file: the data order, dropout, the optimizer and the schedule are where they were. An uninterrupted run is the judge.

    python examples/resume_elsewhere.py
    python examples/resume_elsewhere.py --first ignite --then lightning
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import FitResult, ModelCheckpoint, TrainSpec, UnifiedTrainer, seed_everything

EPOCHS = 3
STEPS_BETWEEN_FILES = 25
KILL_AFTER_FILES = 3
FRAMEWORKS = ("lightning", "ignite", "reference")


def make_spec() -> TrainSpec:
    """Return the same spec, with the same initial weights, each time."""
    seed_everything(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(16 * 36, 10),
    )  # fmt: skip
    return TrainSpec(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=3e-3),
        lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5),
    )


def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    """Return the digits, shuffled anew in each epoch."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float32).view(-1, 8, 8) / 16
    return DataLoader(TensorDataset(pixels, torch.tensor(labels)), batch_size=32, shuffle=True)


def train(framework: str, spec: TrainSpec, folder: Path | None = None, ckpt_path: Path | None = None) -> FitResult:
    """Train ``spec``; with a folder, write a file every few optimizer steps."""
    callbacks = []
    if folder is not None:
        callbacks = [ModelCheckpoint(folder, "{step}", every_n_train_steps=STEPS_BETWEEN_FILES, save_top_k=-1)]
    trainer = UnifiedTrainer(framework, max_epochs=EPOCHS, seed=0, accelerator="cpu", callbacks=callbacks)
    return trainer.fit(spec, loader(), ckpt_path=ckpt_path)


def train_and_be_killed(framework: str, folder: Path) -> Path:
    """Train in a process of its own, kill it without warning, and return the newest file it left."""
    command = [sys.executable, __file__, "--first", framework, "--child", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 - this very script
    while len(list(folder.glob("*.ckpt"))) < KILL_AFTER_FILES and process.poll() is None:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return max(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def main() -> int:
    """Run the three runs and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--first", choices=FRAMEWORKS, default="lightning", help="the backend that is killed; default: %(default)s"
    )
    parser.add_argument(
        "--then", choices=FRAMEWORKS, default="ignite", help="the backend that goes on; default: %(default)s"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)  # results depend on the number of threads
    if options.child is not None:
        train(options.first, make_spec(), options.child)
        return 0

    whole, resumed = make_spec(), make_spec()
    train("reference", whole)
    with tempfile.TemporaryDirectory() as folder:
        newest = train_and_be_killed(options.first, Path(folder))
        print(f"{options.first} was killed; its newest file is {newest.name}")
        result = train(options.then, resumed, Path(folder), ckpt_path=newest)
    print(f"{options.then} went on to epoch {result.epoch}, step {result.step}")
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    equal = all(torch.equal(one, other) for one, other in pairs)
    print(f"equal weights: {'yes' if equal else 'no'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
