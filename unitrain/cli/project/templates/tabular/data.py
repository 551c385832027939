"""The data: the rows of rides.csv. Replace the file, and name its columns here."""

import csv
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from unitrain import DataSpec

FILE = Path(__file__).with_name("rides.csv")
NUMBERS = ("temperature", "rain", "wind")
CATEGORIES = {
    "weekday": ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    "daytime": ("morning", "noon", "evening", "night"),
}
TARGET = "rides"
FEATURES = len(NUMBERS) + sum(map(len, CATEGORIES.values()))
TRAIN, VAL = 0.7, 0.15  # the rest is for tests


def read(file: Path = FILE) -> tuple[Tensor, Tensor]:
    """Return the features (N, FEATURES), a category as one column for each of its values, and the targets (N,)."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    numbers = [[float(row[name]) for name in NUMBERS] for row in rows]
    categories = [
        [float(row[name] == value) for name, values in CATEGORIES.items() for value in values] for row in rows
    ]
    targets = [float(row[TARGET]) for row in rows]
    return torch.cat([torch.tensor(numbers), torch.tensor(categories)], dim=1), torch.tensor(targets)


def rides(batch_size: int = 32) -> DataSpec:
    """Return the loaders of each stage; run.yaml sets the arguments.

    Args:
        batch_size: Number of rows of a batch.
    """
    features, targets = read()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    first, second = int(TRAIN * len(order)), int((TRAIN + VAL) * len(order))
    train, val, test = order[:first], order[first:second], order[second:]
    # the numbers are scaled by what the training rows show, and by nothing else
    numbers = features[train, : len(NUMBERS)]
    features[:, : len(NUMBERS)] = (features[:, : len(NUMBERS)] - numbers.mean(0)) / numbers.std(0)
    targets = targets / targets[train].mean()

    def loader(rows: Tensor, *, shuffle: bool = False) -> DataLoader:
        return DataLoader(TensorDataset(features[rows], targets[rows]), batch_size=batch_size, shuffle=shuffle)

    return DataSpec(train=loader(train, shuffle=True), val=loader(val), test=loader(test))
