"""Triplets: learn an embedding, then test it by distance."""

import argparse
import random

import torch
from ignite.engine import Engine, Events
from ignite.handlers.param_scheduler import LRScheduler
from ignite.metrics import Accuracy, RunningAverage
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset


class Matcher(Dataset):
    def __init__(self, n, seed):
        rng = random.Random(seed)
        g = torch.Generator().manual_seed(seed)
        centers = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
        self.triplets = []
        for _ in range(n):
            a, b = rng.sample(range(3), 2)
            anchor, positive, negative = (centers[i] + 0.4 * torch.randn(8, generator=g) for i in (a, a, b))
            self.triplets.append((anchor, positive, negative))

    def __len__(self):
        return len(self.triplets)

    def __getitem__(self, index):
        return self.triplets[index]


class SiameseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, a, p, n):
        return self.trunk(a), self.trunk(p), self.trunk(n)


def run(args, model, device, optimizer, train_loader, test_loader, lr_scheduler):
    criterion = nn.TripletMarginLoss(margin=1.0)

    def train_step(engine, batch):
        model.train()
        a, p, n = (x.to(device) for x in batch)
        optimizer.zero_grad()
        loss = criterion(*model(a, p, n))
        loss.backward()
        optimizer.step()
        return loss

    def test_step(engine, batch):
        model.eval()
        with torch.inference_mode():
            a, p, n = model(*batch)
            near = (a - p).norm(dim=1) < (a - n).norm(dim=1)
            return near.long(), torch.ones(len(near), dtype=torch.long)

    trainer = Engine(train_step)
    evaluator = Engine(test_step)
    Accuracy().attach(evaluator, "accuracy")
    RunningAverage(output_transform=lambda x: x, alpha=0.5, epoch_bound=False).attach(trainer, "avg")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lr_scheduler)

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_training_results(engine):
        print(f"epoch {engine.state.epoch} loss {engine.state.output.item():.6f} avg {engine.state.metrics['avg']:.6f}")

    @trainer.on(Events.EPOCH_COMPLETED(every=args.test_every))
    def test(engine):
        evaluator.run(test_loader)
        print(f"accuracy {evaluator.state.metrics['accuracy']:.4f} lr {optimizer.param_groups[0]['lr']:.6f}")

    trainer.run(train_loader, max_epochs=args.epochs)


def main():
    parser = argparse.ArgumentParser(description="Siamese")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--test-every", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--gamma", type=float, default=0.7)
    args = parser.parse_args()
    torch.manual_seed(3)
    train_loader = DataLoader(Matcher(90, 5), shuffle=True, batch_size=15)
    test_loader = DataLoader(Matcher(40, 6), batch_size=20)
    model = SiameseNetwork()
    optimizer = optim.Adadelta(model.parameters(), lr=args.lr)
    scheduler = LRScheduler(StepLR(optimizer, step_size=1, gamma=args.gamma))
    run(args, model, torch.device("cpu"), optimizer, train_loader, test_loader, scheduler)


if __name__ == "__main__":
    main()
