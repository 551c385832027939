"""Regression: the learning rate falls when the validation does not improve."""

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import ReduceLROnPlateauScheduler
from ignite.metrics import MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
from ignite.metrics.regression import R2Score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_data():
    x = torch.rand(150, 2) * 4 - 2
    y = (x[:, :1] ** 2 - x[:, 1:]) + 0.1 * torch.randn(150, 1)
    return TensorDataset(x[:120], y[:120]), TensorDataset(x[120:], y[120:])


def main():
    torch.manual_seed(44)
    train_set, val_set = make_data()
    train_loader = DataLoader(train_set, batch_size=24, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=30)
    model = nn.Sequential(nn.Linear(2, 16), nn.ELU(), nn.Linear(16, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(
        model,
        optimizer,
        nn.SmoothL1Loss(),
        output_transform=lambda x, y, y_pred, loss: (loss.item(), y_pred.detach(), y),
    )
    evaluator = create_supervised_evaluator(
        model,
        metrics={
            "mse": MeanSquaredError(),
            "mae": MeanAbsoluteError(),
            "rmse": RootMeanSquaredError(),
            "r2": R2Score(),
        },
    )
    MeanAbsoluteError(output_transform=lambda out: (out[1], out[2])).attach(trainer, "train mae")
    scheduler = ReduceLROnPlateauScheduler(
        optimizer, metric_name="mse", trainer=trainer, factor=0.5, patience=0, threshold=0.05, save_history=True
    )
    evaluator.add_event_handler(Events.COMPLETED, scheduler)

    @trainer.on(Events.EPOCH_COMPLETED)
    def compute_metrics(engine):
        evaluator.run(val_loader)

    @evaluator.on(Events.COMPLETED)
    def show(engine):
        found = " ".join(f"{name}={value:.6f}" for name, value in sorted(engine.state.metrics.items()))
        print(f"[{trainer.state.epoch}] {found} lr={optimizer.param_groups[0]['lr']:.5f}")

    trainer.run(train_loader, max_epochs=7)
    print(trainer.state.metrics["train mae"], trainer.state.output[0])
    print(trainer.state.param_history)


if __name__ == "__main__":
    main()
