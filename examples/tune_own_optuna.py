"""Your own Optuna code, with `unitrain.Pruning`: the study, the sampler and the objective stay yours.

The callback reports the metric to the trial after each epoch and stops the fit if the trial is to be pruned; the fit
then raises Optuna's TrialPruned, so the objective needs no line for it. Trials are the same on both frameworks.

    python examples/tune_own_optuna.py
    python examples/tune_own_optuna.py --framework lightning --trials 20
"""

import argparse
from functools import partial

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from unitrain import Pruning, TrainSpec, UnifiedTrainer, metric, seed_everything

EPOCHS = 5


def objective(trial: optuna.Trial, framework: str, train: DataLoader, val: DataLoader) -> float:
    """Train with what the trial suggests, and return the accuracy."""
    seed_everything(0)  # the first weights
    width = trial.suggest_int("width", 8, 64, log=True)
    spec = TrainSpec(
        model=nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True)),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )
    trainer = UnifiedTrainer(
        framework,
        max_epochs=EPOCHS,
        seed=0,
        accelerator="cpu",
        callbacks=[Pruning(trial, "val/acc")],
        enable_progress_bar=False,
    )
    return trainer.fit(spec, train, val).metrics["val/acc"]


def main() -> None:
    """Search and report."""
    parser = argparse.ArgumentParser(description="Use unitrain in a study that your own Optuna code runs.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite", "reference"),
        default="ignite",
        help="what runs the training; the trials are the same (default: %(default)s)",
    )
    parser.add_argument("--trials", type=int, default=10, help="how many (default: %(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the model is so small that further threads would mostly wait for each other
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train, val = random_split(data, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    loaders = {"train": DataLoader(train, 32, shuffle=True), "val": DataLoader(val, 256)}

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(partial(objective, framework=options.framework, **loaders), n_trials=options.trials)
    for trial in study.trials:
        print(f"trial {trial.number}  {trial.state.name.lower():8}  {trial.value:.4f}  {trial.params}")
    print(f"best: {study.best_value:.4f} in trial {study.best_trial.number}")


if __name__ == "__main__":
    main()
