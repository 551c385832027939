"""One spec, two real frameworks, the same weights to the last bit.

A small CNN learns the handwritten digits of scikit-learn: once on PyTorch-Lightning, once on PyTorch-Ignite and once in
a bare PyTorch loop. Only the word in ``UnifiedTrainer(framework)`` changes. The script prints what each one reached,
says in its last line whether all weights are equal (if not, it exits with status 1), and writes the curves to
``quickstart.png``. It takes seconds on a CPU and downloads nothing.

    python examples/quickstart.py
    python examples/quickstart.py --epochs 20 --frameworks ignite reference
"""

from __future__ import annotations

import argparse
import sys
import time
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import FitResult, TrainSpec, UnifiedTrainer, metric, seed_everything

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAMEWORKS = ("lightning", "ignite", "reference")


class Run(NamedTuple):
    """What training on one framework gave."""

    model: nn.Module
    result: FitResult
    seconds: float


def load_data() -> tuple[DataLoader, DataLoader]:
    """Return the loaders for training and validation: 1,797 images of 8x8 pixels, a fifth of them held back."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # (N, 1, 8, 8), from 0 to 1
    labels = torch.tensor(digits.target)
    train, val = train_test_split(range(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    return (
        DataLoader(TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True),
        DataLoader(TensorDataset(images[val], labels[val]), batch_size=256),
    )


def make_spec() -> TrainSpec:
    """Return what to train. Nothing in it belongs to a framework."""
    seed_everything(0)  # the first weights
    net = nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 4 * 4, 10),
    )
    return TrainSpec(
        model=net,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=2e-3),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )


def train(framework: str, spec: TrainSpec, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> Run:
    """Train a copy of the model on ``framework``."""
    # Training changes a model in place, so each framework gets its own copy of the same first weights.
    spec = replace(spec, model=deepcopy(spec.model))
    # The seed decides how batches are shuffled and what dropout drops. It is the same for all.
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, accelerator="cpu", enable_progress_bar=False)
    start = time.perf_counter()
    result = trainer.fit(spec, train_loader, val_loader)
    return Run(spec.model, result, time.perf_counter() - start)


def equal_weights(models: Sequence[nn.Module]) -> bool:
    """Return whether all parameters and buffers of all models are equal, bit for bit; nothing is rounded."""
    first, *others = (model.state_dict() for model in models)
    return all(
        first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)
        for other in others
    )


def show(runs: Sequence[Run]) -> None:
    """Print one row for each run."""
    table = Table("framework", "native object", "val accuracy", "val loss", "seconds")
    for _, result, seconds in runs:
        native = type(result.native)  # a real Trainer, a real Engine; the bare loop has no such object
        origin = "none" if result.native is None else f"{native.__module__.partition('.')[0]} {native.__name__}"
        accuracy, loss = result.metrics["val/acc"], result.metrics["val/loss"]
        table.add_row(result.framework, origin, f"{accuracy:.4f}", f"{loss:.6f}", f"{seconds:.2f}")
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train on every framework, compare, and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Train one CNN on several frameworks with the same seed and compare the weights.",
        epilog="The exit status is 0 if all weights are equal, else 1.",
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training data (default: %(default)s)")
    parser.add_argument(
        "--frameworks",
        nargs="+",
        choices=FRAMEWORKS,
        default=FRAMEWORKS,
        help="at least two to compare; reference is a bare PyTorch loop (default: all three)",
    )
    parser.add_argument("--plot", metavar="PATH", default="quickstart.png", help="picture of the curves (%(default)s)")
    options = parser.parse_args(arguments)
    if len(options.frameworks) < 2:
        parser.error("--frameworks: one alone can be compared with nothing; name at least two")

    torch.set_num_threads(1)  # the net is so small that further threads would mostly wait for each other
    spec, loaders = make_spec(), load_data()
    runs = [train(framework, spec, *loaders, options.epochs) for framework in options.frameworks]
    show(runs)
    runs[0].result.plot(options.plot)
    print(f"curves: {options.plot}")
    equal = equal_weights([run.model for run in runs])
    print(f"equal weights: {'yes' if equal else 'no'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
