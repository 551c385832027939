"""Points on three arms of a spiral."""

import math

import torch
from torch.utils.data import DataLoader, TensorDataset


def spiral(count, seed):
    generator = torch.Generator().manual_seed(seed)
    arm = torch.arange(count) % 3
    radius = torch.linspace(0.1, 1, count)
    angle = 2 * math.pi * (radius + arm / 3) + 0.1 * torch.randn(count, generator=generator)
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), arm)


def loaders(batch_size=30):
    return DataLoader(spiral(600, seed=1), batch_size, shuffle=True), DataLoader(spiral(150, seed=2), batch_size)
