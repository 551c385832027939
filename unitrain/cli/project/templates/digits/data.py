"""The data. It is drawn here, so the project needs no download: replace `images` with your own."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from unitrain import DataSpec

# Each digit is five rows of three pixels.
GLYPHS = (
    "#### ## ## ####",
    " # ##  #  # ###",
    "###  #####  ###",
    "###  ####  ####",
    "# ## ####  #  #",
    "####  ###  ####",
    "####  #### ####",
    "###  #  #  #  #",
    "#### ##### ####",
    "#### ####  ####",
)
SIZE, SCALE, NOISE = 12, 2, 0.4


def images(count: int, seed: int) -> TensorDataset:
    """Return images (1, 12, 12) of digits at random places, with noise, and their labels.

    Args:
        count: Number of images.
        seed: Seed of the places, labels and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = NOISE * torch.randn(count, 1, SIZE, SIZE, generator=generator)
    tops = torch.randint(SIZE - 5 * SCALE + 1, (count,), generator=generator)
    lefts = torch.randint(SIZE - 3 * SCALE + 1, (count,), generator=generator)
    glyphs = torch.stack([glyph(digit) for digit in range(10)])
    for index, (label, top, left) in enumerate(zip(labels, tops, lefts, strict=True)):
        pixels[index, 0, top : top + 5 * SCALE, left : left + 3 * SCALE] += glyphs[label]
    return TensorDataset(pixels, labels)


def glyph(digit: int) -> Tensor:
    """Return the pixels of a digit."""
    rows = torch.tensor([float(pixel == "#") for pixel in GLYPHS[digit]]).view(5, 3)
    return rows.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)


def digits(batch_size: int = 32, train_size: int = 2000) -> DataSpec:
    """Return the loaders of each stage; run.yaml sets the arguments.

    Args:
        batch_size: Number of images of a batch.
        train_size: Number of images to train on.
    """
    return DataSpec(
        train=DataLoader(images(train_size, seed=1), batch_size=batch_size, shuffle=True),
        val=DataLoader(images(500, seed=2), batch_size=batch_size),
        test=DataLoader(images(500, seed=3), batch_size=batch_size),
    )
