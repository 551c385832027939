"""The data: the characters of text.txt. Replace the file with a text of your own."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from unitrain import DataSpec

FILE = Path(__file__).with_name("text.txt")
ALPHABET = " abcdefghijklmnopqrstuvwxyz.,;:!?'\"()-\n"
TRAIN, VAL = 0.8, 0.1  # the rest is for tests


def encoded(text: str) -> Tensor:
    """Return the codes (N,) of the characters of a text; a character that is not in ALPHABET is read as a space."""
    return torch.tensor([max(ALPHABET.find(character), 0) for character in text.lower()])


def windows(codes: Tensor, length: int) -> TensorDataset:
    """Return windows (length,) of a text, and for each of their characters the next one.

    Args:
        codes: The codes of a text (N,).
        length: Number of characters of a window. Windows overlap by half of it.
    """
    pieces = codes.unfold(0, length + 1, max(length // 2, 1))
    return TensorDataset(pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous())


def characters(batch_size: int = 16, length: int = 48) -> DataSpec:
    """Return the loaders of each stage; run.yaml sets the arguments.

    Args:
        batch_size: Number of windows of a batch.
        length: Number of characters of a window.
    """
    codes = encoded(FILE.read_text(encoding="utf-8"))
    first, second = int(TRAIN * len(codes)), int((TRAIN + VAL) * len(codes))
    return DataSpec(
        train=DataLoader(windows(codes[:first], length), batch_size=batch_size, shuffle=True),
        val=DataLoader(windows(codes[first:second], length), batch_size=batch_size),
        test=DataLoader(windows(codes[second:], length), batch_size=batch_size),
    )
