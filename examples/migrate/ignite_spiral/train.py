"""Train a classifier of points with PyTorch-Ignite."""

import torch
from data import loaders
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.handlers import Checkpoint, DiskSaver, EarlyStopping, PiecewiseLinear
from ignite.metrics import Accuracy, Loss, RunningAverage
from torch import nn


def main():
    torch.manual_seed(0)
    train_loader, val_loader = loaders()
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()

    def step(engine, batch):
        model.train()
        points, arms = batch
        optimizer.zero_grad()
        loss = criterion(model(points), arms)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    trainer = Engine(step)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    warm_up = PiecewiseLinear(optimizer, "lr", [(0, 1e-4), (20, 1e-2), (160, 1e-4)])
    trainer.add_event_handler(Events.ITERATION_STARTED, warm_up)

    evaluator = create_supervised_evaluator(model, metrics={"acc": Accuracy(), "nll": Loss(criterion)})
    score = Checkpoint.get_default_score_fn("acc")
    saver = DiskSaver("checkpoints", create_dir=True, require_empty=False)
    best = Checkpoint({"model": model}, saver, score_function=score, filename_prefix="best", n_saved=1)
    evaluator.add_event_handler(Events.COMPLETED, best)
    evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(patience=3, score_function=score, trainer=trainer))

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        evaluator.run(val_loader)

    @trainer.on(Events.EPOCH_COMPLETED(every=4) | Events.COMPLETED)
    def report(engine):
        epoch, loss, acc = engine.state.epoch, engine.state.metrics["loss"], evaluator.state.metrics["acc"]
        print(f"epoch {epoch}: loss {loss:.4f}, acc {acc:.4f}")

    trainer.run(train_loader, max_epochs=8)


if __name__ == "__main__":
    main()
