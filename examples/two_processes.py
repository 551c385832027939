"""One digit classifier on two processes, on both backends: the same bits on both.

Weights, metrics and the history come back to this script whoever started the processes: unitrain in the first line,
torchrun in the second. Nothing is downloaded.

    python examples/two_processes.py
    torchrun --standalone --nproc-per-node=2 examples/two_processes.py --epochs 5
"""

import argparse
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from unitrain import TrainSpec, UnifiedTrainer, metric, seed_everything


def train(framework: str, processes: int, epochs: int) -> tuple[dict[str, torch.Tensor], int]:
    """Train the same spec and return its weights, and the rank of this process."""
    seed_everything(0)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train_data, val_data = random_split(data, [0.8, 0.2])
    spec = TrainSpec(
        model=nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=3e-3),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )
    trainer = UnifiedTrainer(
        framework,
        devices=processes,
        strategy="ddp",
        accelerator="cpu",
        max_epochs=epochs,
        seed=0,
        enable_progress_bar=False,
    )
    result = trainer.fit(spec, DataLoader(train_data, 32, shuffle=True), DataLoader(val_data, 32))
    if trainer.rank == 0:
        made = f"{result.step} steps of {processes} x 32 samples"
        print(f"{framework}: val/acc {result.metrics['val/acc']:.4f} after {made}")
    return spec.model.state_dict(), trainer.rank


def main() -> None:
    """Train on both backends and compare."""
    parser = argparse.ArgumentParser(
        description="Train a digit classifier on several processes, once on each backend, and compare the weights.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--frameworks", nargs="+", default=["lightning", "ignite"], help="the backends to compare")
    parser.add_argument("--processes", type=int, default=2, help="how many train together")
    parser.add_argument("--epochs", type=int, default=3, help="how often to see all data")
    options = parser.parse_args()
    reached = [train(framework, options.processes, options.epochs) for framework in options.frameworks]
    first, rank = reached[0]
    equal = all(torch.equal(first[name], other[name]) for other, _ in reached for name in first)
    if rank == 0:
        print(f"equal weights: {'yes' if equal else 'no'}")


if __name__ == "__main__":  # each process that unitrain starts imports this file
    main()
