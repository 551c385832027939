"""Regression on a table: metrics by name, a learning rate that waits for a plateau, event handlers and predictions.

An MLP predicts how far diabetes has progressed after a year, from ten measurements of 442 patients (scikit-learn). To
be seen: a metric needs only its name, ``LRSchedule(monitor=...)`` halves the learning rate when the validation loss no
longer falls, ``Event.EPOCH_END(every=10)`` calls a function every tenth epoch, and ``trainer.predict`` returns the
model's answers. The numbers are the same on both frameworks.

    python examples/tabular_regression.py
    python examples/tabular_regression.py --framework lightning
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Event, LRSchedule, TrainSpec, UnifiedTrainer, metric, seed_everything

if TYPE_CHECKING:
    from unitrain import RunContext


class Scale(NamedTuple):
    """The mean and the standard deviation of columns, to take numbers to zero mean and unit variance, and back."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Scale:
        """Measure ``values``, one row a sample."""
        return cls(values.mean(dim=0), values.std(dim=0))

    def apply(self, values: Tensor) -> Tensor:
        """Return standardised values."""
        return (values - self.mean) / self.std

    def undo(self, values: Tensor) -> Tensor:
        """Return values in their own units."""
        return values * self.std + self.mean


def make_model(features: int) -> nn.Module:
    """Return an MLP that gives one number a sample."""
    seed_everything(0)
    return nn.Sequential(
        nn.Linear(features, 64),
        nn.ReLU(),
        nn.Dropout(0.5),  # a few hundred patients are soon learnt by heart
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.Flatten(0),  # (B, 1) to (B,), the shape of the targets
    )


def main() -> None:
    """Train, report, predict."""
    parser = argparse.ArgumentParser(description="Predict the progression of diabetes from ten measurements.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite", "reference"),
        default="ignite",
        help="what runs the training; the result is the same (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=50, help="passes over the training data (default: %(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the net is so small that further threads would mostly wait for each other
    x, y = load_diabetes(return_X_y=True, scaled=False)
    parts = train_test_split(x, y, test_size=0.25, random_state=0)
    x_train, x_val, y_train, y_val = (torch.tensor(part, dtype=torch.float32) for part in parts)
    # Measured on the training part alone: the model must know nothing of the patients it is judged on.
    features, target = Scale.of(x_train), Scale.of(y_train)
    train_set = TensorDataset(features.apply(x_train), target.apply(y_train))
    val_set = TensorDataset(features.apply(x_val), target.apply(y_val))
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=128)

    spec = TrainSpec(
        model=make_model(x_train.shape[1]),
        loss=nn.MSELoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=1.0),
        lr_scheduler=LRSchedule(partial(ReduceLROnPlateau, factor=0.5, patience=4), monitor="val/loss"),
        metrics={"mae": metric("mae"), "r2": metric("r2")},
    )
    trainer = UnifiedTrainer(
        options.framework, max_epochs=options.epochs, seed=0, accelerator="cpu", enable_progress_bar=False
    )

    @trainer.on(Event.EPOCH_END(every=10))
    def report(run: RunContext) -> None:
        values = run.state.metrics
        rate = run.optimizers["optimizer"].param_groups[0]["lr"]  # the only optimizer is called "optimizer"
        print(
            f"epoch {run.state.epoch + 1:3}  train/loss {values['train/loss']:.4f}  val/loss {values['val/loss']:.4f}"
            f"  val/r2 {values['val/r2']:.4f}  lr {rate:.2g}"
        )

    result = trainer.fit(spec, train_loader, val_loader)
    print(f"\ntrained on {result.framework}")
    for name, value in sorted(result.metrics.items()):
        print(f"{name:10} {value:.6f}")

    predicted = target.undo(torch.cat(trainer.predict(spec, val_loader)))  # one tensor a batch
    print("\npredicted  true   (progression after a year, five of the patients held back)")
    for guess, truth in zip(predicted[:5].tolist(), y_val[:5].tolist(), strict=True):
        print(f"{guess:9.1f} {truth:5.0f}")
    print(f"mean error {(predicted - y_val).abs().mean():.2f}")
    print(f"mean error {(target.mean - y_val).abs().mean():.2f} if every patient were called average")


if __name__ == "__main__":
    main()
