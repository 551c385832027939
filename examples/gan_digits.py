"""A GAN that learns to draw digits: two optimizers, a training step that runs them itself, and a callback.

The generator turns noise into an 8x8 picture, the discriminator tells drawn digits from those of scikit-learn. To be
seen: ``optimizer={"gen": ..., "disc": ...}`` gives each submodule its own optimizer, ``automatic_optimization=False``
hands backward and step to ``training_step(run, batch)``, and a ``Callback`` measures and keeps the drawings.
The losses are the same on both frameworks. The drawings go to ``gan_digits.png``.

    python examples/gan_digits.py
    python examples/gan_digits.py --framework lightning --epochs 100
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from unitrain import Callback, TrainSpec, UnifiedTrainer, seed_everything

if TYPE_CHECKING:
    from unitrain import RunContext

NOISE, PIXELS, ROWS = 16, 64, 5
MEASURED = 500


def make_gan() -> nn.ModuleDict:
    """Return both networks. The keys are the names by which their optimizers find them."""
    seed_everything(0)
    gen = nn.Sequential(
        nn.Linear(NOISE, 128),
        nn.LayerNorm(128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.LayerNorm(128),
        nn.ReLU(),
        nn.Linear(128, PIXELS),
        nn.Sigmoid(),
    )
    disc = nn.Sequential(
        nn.Linear(PIXELS, 128),
        nn.LeakyReLU(0.2),
        nn.Dropout(0.3),
        nn.Linear(128, 64),
        nn.LeakyReLU(0.2),
        nn.Linear(64, 1),
    )
    return nn.ModuleDict({"gen": gen, "disc": disc})


def adversarial_loss(answers: Tensor, truth: float) -> Tensor:
    """Return how far the discriminator's answers are from ``truth``: 1 for real, 0 for drawn."""
    return binary_cross_entropy_with_logits(answers, torch.full_like(answers, truth))


def training_step(run: RunContext, real: Tensor) -> None:
    """Let the discriminator learn, then the generator."""
    gen, disc = run.model["gen"], run.model["disc"]
    drawn = gen(torch.randn(len(real), NOISE))

    # 0.9 instead of 1: a discriminator that is never quite sure leaves the generator something to learn from.
    d_loss = adversarial_loss(disc(real), 0.9) + adversarial_loss(disc(drawn.detach()), 0.0)
    run.backward(d_loss)
    run.step("disc")  # clips, steps and clears the gradients

    g_loss = adversarial_loss(disc(drawn), 1.0)
    run.backward(g_loss)
    run.step("gen")
    run.optimizers["disc"].zero_grad()  # the generator's loss went through the discriminator and left gradients there

    run.log("d_loss", d_loss)
    run.log("g_loss", g_loss)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return how different two sets of pictures are as a whole, (N, 64) and (M, 64); 0 if they cannot be told apart."""
    return 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()


class Drawings(Callback):
    """Measures the drawings after every epoch and writes a picture of some at the end.

    The losses of a GAN only say which of the two is ahead, so the drawings themselves are measured.

    Args:
        images: The real digits, (N, 64).
        path: Where the picture goes.
    """

    def __init__(self, images: Tensor, path: str) -> None:
        self.images = images
        self.path = path
        # The same noise each time, from a generator of its own: watching must not change what training draws.
        self.noise = torch.randn(MEASURED, NOISE, generator=torch.Generator().manual_seed(0))

    def on_epoch_end(self, run: RunContext) -> None:
        """Log how far the drawings are from the real digits. A name with a slash is taken as it is."""
        run.log("drawings/distance", energy_distance(self.draw(run), self.images))

    def on_fit_end(self, run: RunContext) -> None:
        """Write the picture."""
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots(ROWS, ROWS).flat
        for axis, drawing in zip(axes, self.draw(run), strict=False):
            axis.imshow(drawing.reshape(8, 8).numpy(), cmap="gray_r", vmin=0, vmax=1)
            axis.axis("off")
        figure.savefig(self.path)

    @torch.no_grad()
    def draw(self, run: RunContext) -> Tensor:
        """Return what the generator makes of the noise, (500, 64)."""
        return run.model["gen"](self.noise)


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description="Train a GAN that draws digits.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite", "reference"),
        default="ignite",
        help="what runs the training; the result is the same (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=60, help="passes over the digits (default: %(default)s)")
    parser.add_argument("--plot", metavar="PATH", default="gan_digits.png", help="picture of drawings (%(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the GAN is so small that further threads would mostly wait for each other
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 16  # (1797, 64), from 0 to 1
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999))
    spec = TrainSpec(
        model=make_gan(),
        optimizer={"gen": adam, "disc": adam},
        automatic_optimization=False,
        training_step=training_step,
        callbacks=[Drawings(images, options.plot)],
    )
    trainer = UnifiedTrainer(options.framework, max_epochs=options.epochs, seed=0, accelerator="cpu")
    result = trainer.fit(spec, DataLoader(images, batch_size=64, shuffle=True))

    print(f"trained on {result.framework}: {result.step} steps")
    first, last = result.history[0], result.history[-1]
    for name in ("train/d_loss", "train/g_loss", "drawings/distance"):
        print(f"{name:18} {first[name]:.6f} -> {last[name]:.6f}")
    print(f"drawings: {options.plot}")


if __name__ == "__main__":
    main()
