"""Search the hyper-parameters of a digit classifier; poor trials are stopped early.

The study is kept in a file, ``tune_digits.log``. Stop the script with Ctrl-C and start it again, on the other framework
if you like: it continues the trial it was in, and the study ends with the same trials. Another ``--trials`` adds some.
The picture shows what was tried. The numbers are the same on both frameworks. Nothing is downloaded.

    python examples/tune_digits.py
    python examples/tune_digits.py --framework lightning --trials 30
"""

import argparse
from functools import partial
from pathlib import Path

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import unitrain
from unitrain import TrainSpec, metric

EPOCHS = 4


def make_spec(trial: optuna.Trial) -> TrainSpec:
    """Return the spec of a trial; what the trial suggests is searched."""
    width = trial.suggest_int("width", 8, 64, log=True)
    rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.5)
    optimizer = trial.suggest_categorical("optimizer", ["AdamW", "SGD"])
    return TrainSpec(
        model=nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(getattr(torch.optim, optimizer), lr=rate),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return the digits, split in the same way each time."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train, val = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    return DataLoader(train, 32, shuffle=True), DataLoader(val, 256)


def main() -> None:
    """Search, report, draw."""
    parser = argparse.ArgumentParser(description="Search the hyper-parameters of a digit classifier.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite", "reference"),
        default="ignite",
        help="what runs the training; the trials are the same (default: %(default)s)",
    )
    parser.add_argument("--trials", type=int, default=12, help="how many trials in all (default: %(default)s)")
    parser.add_argument("--plot", type=Path, default="tune_digits.png", help="the picture (default: %(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the model is so small that further threads would mostly wait for each other
    train, val = loaders()
    result = unitrain.tune(
        make_spec,
        train,
        val,
        n_trials=options.trials,
        monitor="val/acc",
        direction="maximize",
        framework=options.framework,
        trainer={"max_epochs": EPOCHS, "accelerator": "cpu"},
        storage="journal:///tune_digits.log",
        study_name="tune_digits",
        pruner="median",
    )
    print(result)
    print(f"best checkpoint: {result.best_checkpoint}")
    result.plot(options.plot)


if __name__ == "__main__":
    main()
