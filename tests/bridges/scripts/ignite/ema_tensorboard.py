"""Averaged weights, schedulers on several groups, and everything on TensorBoard."""

from dataclasses import dataclass

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import CosineAnnealingScheduler, EMAHandler, ParamGroupScheduler, TerminateOnNan
from ignite.handlers.tensorboard_logger import (
    OptimizerParamsHandler,
    TensorboardLogger,
    WeightsScalarHandler,
    global_step_from_engine,
)
from ignite.metrics import Accuracy, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    seed: int = 12
    lr: float = 0.1
    momentum: float = 0.9
    ema_momentum: float = 0.1
    epochs: int = 3
    batch_size: int = 16
    log_dir: str = "tb_logs"


def get_model():
    return nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14, 2))


def get_data(cfg):
    t = torch.linspace(0, 6.28, 16)
    y = torch.randint(0, 2, (120,))
    x = torch.sin(t * (1 + y.view(-1, 1)) + torch.rand(120, 1)) + 0.3 * torch.randn(120, 16)
    x = x.unsqueeze(1)
    return (
        DataLoader(TensorDataset(x[:90], y[:90]), cfg.batch_size, shuffle=True),
        DataLoader(TensorDataset(x[90:], y[90:]), cfg.batch_size),
    )


def main(cfg):
    torch.manual_seed(cfg.seed)
    train_loader, val_loader = get_data(cfg)
    model = get_model()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": cfg.lr}, {"params": model[3].parameters(), "lr": cfg.lr / 2}],
        momentum=cfg.momentum,
    )
    criterion = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, criterion)
    ema_handler = EMAHandler(model, momentum=cfg.ema_momentum)
    ema_handler.attach(trainer, name="ema_momentum", event=Events.ITERATION_COMPLETED(every=2))
    metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
    evaluator = create_supervised_evaluator(model, metrics=metrics)
    ema_evaluator = create_supervised_evaluator(
        ema_handler.ema_model, metrics={"accuracy": Accuracy(), "loss": Loss(criterion)}
    )

    total = cfg.epochs * len(train_loader)
    schedulers = ParamGroupScheduler(
        [
            CosineAnnealingScheduler(optimizer, "lr", cfg.lr, cfg.lr / 10, total, param_group_index=0),
            CosineAnnealingScheduler(optimizer, "lr", cfg.lr / 2, cfg.lr / 20, total, param_group_index=1),
        ],
        names=["body", "head"],
    )
    trainer.add_event_handler(Events.ITERATION_STARTED, schedulers)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate(engine):
        for name, which in (("model", evaluator), ("ema", ema_evaluator)):
            which.run(val_loader)
            print(engine.state.epoch, name, f"{which.state.metrics['accuracy']:.5f} {which.state.metrics['loss']:.6f}")

    tb_logger = TensorboardLogger(log_dir=cfg.log_dir)
    tb_logger.attach_output_handler(
        trainer,
        event_name=Events.ITERATION_COMPLETED(every=3),
        tag="training",
        output_transform=lambda loss: {"batchloss": loss},
    )
    for tag, which in (("validation", evaluator), ("ema", ema_evaluator)):
        tb_logger.attach_output_handler(
            which,
            event_name=Events.EPOCH_COMPLETED,
            tag=tag,
            metric_names=["loss", "accuracy"],
            global_step_transform=global_step_from_engine(trainer),
        )
    tb_logger.attach_opt_params_handler(trainer, event_name=Events.ITERATION_COMPLETED(every=5), optimizer=optimizer)
    tb_logger.attach(trainer, log_handler=WeightsScalarHandler(model), event_name=Events.EPOCH_COMPLETED)
    tb_logger.attach(
        trainer, log_handler=OptimizerParamsHandler(optimizer, param_name="momentum"), event_name=Events.EPOCH_STARTED
    )
    trainer.run(train_loader, max_epochs=cfg.epochs)
    tb_logger.close()
    print(trainer.state.ema_momentum, sum(p.sum().item() for p in ema_handler.ema_model.parameters()))


if __name__ == "__main__":
    main(Config())
