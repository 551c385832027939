"""Small models that between them hold what makes bits differ: dropout, batch norm, attention, tied weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

SAMPLES, BATCH = 22, 4
"""The last batch has two samples, so that an unweighted mean is noticed."""

CLASSES = 5
_WIDTH = 8


def mlp() -> nn.Module:
    """Return an MLP with dropout, for inputs of shape (B, 36)."""
    return nn.Sequential(nn.Linear(36, 12), nn.ReLU(), nn.Dropout(0.25), nn.Linear(12, CLASSES))


def cnn() -> nn.Module:
    """Return a CNN with batch norm, for inputs of shape (B, 36)."""
    features = (nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(64, CLASSES))


class Transformer(nn.Module):
    """A one-layer transformer over the 36 inputs as 6 tokens of 6."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, _WIDTH)
        self.layer = nn.TransformerEncoderLayer(_WIDTH, nhead=2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(_WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, CLASSES) for inputs (B, 36)."""
        tokens = self.project(inputs.view(-1, 6, 6))
        logits: Tensor = self.head(self.layer(tokens).mean(1))
        return logits


class Tied(nn.Module):
    """A model that uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(36, CLASSES)
        self.middle = nn.Linear(CLASSES, 36)
        self.decode = nn.Linear(36, CLASSES, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, CLASSES) for inputs (B, 36)."""
        logits: Tensor = self.decode(functional.gelu(self.middle(torch.tanh(self.encode(inputs)))))
        return logits


MODELS = {"mlp": mlp, "cnn": cnn, "transformer": Transformer, "tied": Tied}


def tensors(samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Return inputs (samples, 36) and classes (samples,), the same on each call."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(samples, 36, generator=generator)
    return inputs, torch.randint(0, CLASSES, (samples,), generator=generator)


def loader(*, shuffle: bool = True, workers: int = 0, samples: int = SAMPLES) -> DataLoader[tuple[Tensor, ...]]:
    """Return a DataLoader over ``tensors``, with an uneven last batch."""
    return DataLoader(TensorDataset(*tensors(samples)), batch_size=BATCH, shuffle=shuffle, num_workers=workers)


def batches(samples: int = SAMPLES) -> list[tuple[Tensor, Tensor]]:
    """Return ``tensors`` as a list of batches."""
    inputs, classes = tensors(samples)
    return list(zip(torch.split(inputs, BATCH), torch.split(classes, BATCH), strict=True))
