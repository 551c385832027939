"""What is trained in a benchmark: models, data and lengths, the same for every variant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

Batch = tuple[Tensor, Tensor]
LR = 0.05


@dataclass(frozen=True)
class Work:
    """A work item.

    Attributes:
        name: As it is called in the design notes.
        says: What it is, for the table.
        model: Makes the model; seeded, so always with the same weights.
        classes: How many classes there are.
        epochs: How many to train, or to evaluate.
        train: Makes the training data, or None if the item is an evaluation.
        val: Makes the validation data, or None.
    """

    name: str
    says: str
    model: Callable[[], nn.Module]
    classes: int
    epochs: int
    train: Callable[[], Iterable[Batch]] | None
    val: Callable[[], Iterable[Batch]] | None = None


@dataclass(frozen=True)
class Job:
    """One measurement of one variant: all of it is made anew each time, and before the clock starts.

    Attributes:
        work: The work item.
        model: Its model.
        train: Its training data, or None.
        val: Its validation data, or None.
        folder: Where files go.
    """

    work: Work
    model: nn.Module
    train: Any
    val: Any
    folder: Path


def job(work: Work, folder: Path) -> Job:
    """Return a new job; its random draws are seeded."""
    torch.manual_seed(0)
    model = work.model()
    torch.manual_seed(1)
    return Job(work, model, work.train and work.train(), work.val and work.val(), folder)


def fully_connected(*widths: int) -> nn.Sequential:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for wide, narrow in pairwise(widths):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Characters(nn.Module):
    """A small transformer that names the class of a sequence of characters, ``(B, S)`` to ``(B, C)``."""

    def __init__(self, vocabulary: int = 64, width: int = 64, classes: int = 8, length: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of the classes."""
        return self.head(self.encoder(self.embedding(tokens) + self.place).mean(1))


@cache
def digits() -> TensorDataset:
    """Return scikit-learn's 1,797 digits of 8 by 8 pixels."""
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))


@cache
def sequences() -> TensorDataset:
    """Return 512 random sequences of 128 characters, and a class for each."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 64, (512, 128), generator=generator)
    return TensorDataset(tokens, tokens[:, 0] % 8)


def loaded(data: Callable[[], TensorDataset], size: int, *, shuffle: bool = True) -> Callable[[], Iterable[Batch]]:
    """Return what makes a DataLoader, whose order comes from a generator of its own."""
    return lambda: DataLoader(data(), size, shuffle=shuffle, generator=torch.Generator().manual_seed(0))


class Ready:
    """Batches that are made: no list, for Lightning takes one for several loaders.

    Args:
        batches: They.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)


@cache
def collated(size: int, count: int | None = None, times: int = 1) -> Callable[[], Ready]:
    """Return what gives batches of digits that are ready: there is no loading to hide behind."""
    batches = [(images, labels) for images, labels in DataLoader(digits(), size)]
    return lambda: Ready(batches[:count] * times)


def _small() -> nn.Module:
    return fully_connected(64, 32, 10)


WORK = {
    work.name: work
    for work in (
        Work("W1", "MLP 64-32-10, batch 32, DataLoader", _small, 10, 20, loaded(digits, 32)),
        Work("W1p", "the same, batches ready", _small, 10, 30, collated(32)),
        Work(
            "W2",
            "MLP 64-256-256-10, batch 128, DataLoader",
            lambda: fully_connected(64, 256, 256, 10),
            10,
            25,
            loaded(digits, 128),
        ),
        Work("W3p", "evaluation, batches ready", _small, 10, 1, None, collated(32, times=40)),
        Work(
            "W4p",
            "many short epochs: 5 batches, then validation",
            _small,
            10,
            150,
            collated(32, 5),
            collated(32, 5),
        ),
        Work("W5", "transformer, sequence 128, batch 16, DataLoader", Characters, 8, 1, loaded(sequences, 16)),
    )
}
