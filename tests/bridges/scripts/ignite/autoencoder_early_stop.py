"""An autoencoder with early stopping and the best models kept."""

import argparse
import os

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping, ModelCheckpoint
from ignite.metrics import Loss, MeanAbsoluteError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build(width, code):
    return nn.Sequential(nn.Linear(width, code), nn.Tanh(), nn.Linear(code, width))


def prepare_batch(batch, device, non_blocking):
    (x,) = batch
    x = x.to(device, non_blocking=non_blocking)
    return x, x


def score_function(engine):
    return -engine.state.metrics["loss"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-epochs", type=int, default=15)
    parser.add_argument("--patience", type=int, default=2)
    args = parser.parse_args()

    torch.manual_seed(5)
    data = torch.randn(180, 3) @ torch.randn(3, 15)
    train = DataLoader(TensorDataset(data[:140]), batch_size=20, shuffle=True)
    val = DataLoader(TensorDataset(data[140:]), batch_size=20)

    model = build(15, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    criterion = nn.MSELoss()
    trainer = create_supervised_trainer(model, optimizer, criterion, device="cpu", prepare_batch=prepare_batch)
    evaluator = create_supervised_evaluator(
        model,
        metrics={"loss": Loss(criterion), "mae": MeanAbsoluteError()},
        device="cpu",
        prepare_batch=prepare_batch,
    )

    stopper = EarlyStopping(args.patience, score_function, trainer, min_delta=0.15, cumulative_delta=False)
    evaluator.add_event_handler(Events.COMPLETED, stopper)
    best = ModelCheckpoint(
        "models",
        "ae",
        n_saved=2,
        score_function=score_function,
        score_name="neg_loss",
        global_step_transform=lambda engine, event: trainer.state.epoch,
        require_empty=False,
        create_dir=True,
    )
    evaluator.add_event_handler(Events.COMPLETED, best, {"model": model})

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        evaluator.run(val)
        metrics = evaluator.state.metrics
        print(f"epoch {trainer.state.epoch} loss {metrics['loss']:.6f} mae {metrics['mae']:.6f}")

    @trainer.on(Events.TERMINATE)
    def on_terminate():
        print("terminated early")

    @trainer.on(Events.COMPLETED)
    def on_completed(engine):
        print("completed after", engine.state.epoch)

    state = trainer.run(train, max_epochs=args.max_epochs)
    print(state.epoch, stopper.best_score is not None, os.path.basename(str(best.last_checkpoint)))
    model.load_state_dict(torch.load(best.last_checkpoint))
    print(evaluator.run(val).metrics["loss"])


if __name__ == "__main__":
    main()
