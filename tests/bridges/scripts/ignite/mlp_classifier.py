"""Classify blobs, as in the first example of Ignite's documentation."""

from argparse import ArgumentParser

import torch
import torch.nn.functional as F
from ignite.contrib.handlers import ProgressBar
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 24)
        self.fc2 = nn.Linear(24, 3)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training, p=0.2)
        return F.log_softmax(self.fc2(x), dim=-1)


def get_data_loaders(train_batch_size, val_batch_size):
    centers = torch.randn(3, 10)
    y = torch.randint(0, 3, (260,))
    x = centers[y] + torch.randn(260, 10)
    train_loader = DataLoader(TensorDataset(x[:200], y[:200]), batch_size=train_batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[200:], y[200:]), batch_size=val_batch_size, shuffle=False)
    return train_loader, val_loader


def run(train_batch_size, val_batch_size, epochs, lr, momentum, log_interval):
    train_loader, val_loader = get_data_loaders(train_batch_size, val_batch_size)
    model = Net()
    device = "cpu"
    if torch.cuda.is_available():
        device = "cuda"
    model.to(device)
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    criterion = nn.NLLLoss()
    trainer = create_supervised_trainer(model, optimizer, criterion, device=device)
    val_metrics = {"accuracy": Accuracy(), "nll": Loss(criterion)}
    evaluator = create_supervised_evaluator(model, metrics=val_metrics, device=device)
    pbar = ProgressBar(persist=False)
    pbar.attach(trainer, output_transform=lambda loss: {"loss": loss})

    @trainer.on(Events.ITERATION_COMPLETED(every=log_interval))
    def log_training_loss(engine):
        print(
            f"Epoch[{engine.state.epoch}] Iteration[{engine.state.iteration}/"
            f"{engine.state.max_epochs * engine.state.epoch_length}] Loss: {engine.state.output:.5f}"
        )

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_training_results(engine):
        evaluator.run(train_loader)
        metrics = evaluator.state.metrics
        print(
            f"Training   - Epoch: {engine.state.epoch} accuracy: {metrics['accuracy']:.5f} loss: {metrics['nll']:.5f}"
        )

    @trainer.on(Events.EPOCH_COMPLETED)
    def log_validation_results(engine):
        evaluator.run(val_loader)
        metrics = evaluator.state.metrics
        print(
            f"Validation - Epoch: {engine.state.epoch} accuracy: {metrics['accuracy']:.5f} loss: {metrics['nll']:.5f}"
        )

    trainer.run(train_loader, max_epochs=epochs)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--val_batch_size", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--momentum", type=float, default=0.5)
    parser.add_argument("--log_interval", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(10)
    run(args.batch_size, args.val_batch_size, args.epochs, args.lr, args.momentum, args.log_interval)
