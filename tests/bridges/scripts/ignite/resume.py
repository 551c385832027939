"""Save everything, stop half way, load it all again and go on."""

import os
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, global_step_from_engine
from ignite.handlers.param_scheduler import LinearCyclicalScheduler
from ignite.metrics import Accuracy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))

    def forward(self, x):
        return self.net(x)


def get_loaders(seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(96, 6, generator=g)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return DataLoader(TensorDataset(x[:72], y[:72]), batch_size=12), DataLoader(
        TensorDataset(x[72:], y[72:]), batch_size=12
    )


def train(run_dir, epochs, resume_from=None, crash_iteration=None):
    torch.manual_seed(100)
    train_loader, val_loader = get_loaders(1)
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()

    def step(engine, batch):
        model.train()
        optimizer.zero_grad()
        x, y = batch
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer(engine, batch):
        model.eval()
        with torch.no_grad():
            return model(batch[0]), batch[1]

    trainer, evaluator = Engine(step), Engine(infer)
    Accuracy().attach(evaluator, "accuracy")
    scheduler = LinearCyclicalScheduler(optimizer, "lr", 0.05, 0.2, 8)
    trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)

    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer, "lr_scheduler": scheduler}
    training_checkpoint = Checkpoint(to_save, DiskSaver(run_dir, create_dir=True, require_empty=False), n_saved=1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=1), training_checkpoint)
    best = Checkpoint(
        {"model": model},
        DiskSaver(run_dir, create_dir=True, require_empty=False),
        filename_prefix="best",
        score_function=Checkpoint.get_default_score_fn("accuracy"),
        score_name="accuracy",
        n_saved=1,
        global_step_transform=global_step_from_engine(trainer),
    )
    evaluator.add_event_handler(Events.COMPLETED, best)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(val_loader)
        print(
            f"epoch {engine.state.epoch} iteration {engine.state.iteration} accuracy {evaluator.state.metrics['accuracy']:.5f}"
        )

    if crash_iteration is not None:

        @trainer.on(Events.ITERATION_STARTED(once=crash_iteration))
        def crash(engine):
            raise RuntimeError(f"STOP at {engine.state.iteration}")

    if resume_from is not None:
        checkpoint = torch.load(resume_from, weights_only=True)
        Checkpoint.load_objects(to_load=to_save, checkpoint=checkpoint)
        print("resuming after epoch", trainer.state.epoch, "iteration", trainer.state.iteration)

    trainer.run(train_loader, max_epochs=epochs)
    return model, training_checkpoint.last_checkpoint, best


def main():
    run_dir = Path("runs")
    try:
        train(run_dir, 4, crash_iteration=15)
    except RuntimeError as error:
        print("crashed:", error)
    last = sorted(run_dir.glob("checkpoint_*.pt"))[-1]
    model, last, best = train(run_dir, 4, resume_from=last)
    print(os.path.basename(str(last)), os.path.basename(str(best.last_checkpoint)))
    other = Classifier()
    Checkpoint.load_objects({"model": other}, torch.load(best.last_checkpoint, weights_only=True))
    print(sum(p.abs().sum().item() for p in other.parameters()))


if __name__ == "__main__":
    main()
