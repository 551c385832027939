"""Each framework as its own documentation shows it: what a user of it has today."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from tests.bench.work import LR, Job


class Module(LightningModule):
    """A LightningModule that logs a loss and an accuracy."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model, self.loss = job.model, nn.CrossEntropyLoss()
        self.train_acc = MulticlassAccuracy(job.work.classes, average="micro")
        self.val_acc = MulticlassAccuracy(job.work.classes, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Train on a batch."""
        inputs, target = batch
        output = self.model(inputs)
        loss = self.loss(output, target)
        self.train_acc(output, target)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate a batch."""
        inputs, target = batch
        output = self.model(inputs)
        self.val_acc(output, target)
        self.log("val/loss", self.loss(output, target), on_epoch=True)
        self.log("val/acc", self.val_acc, on_epoch=True)

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=LR)


def lightning(job: Job) -> dict[str, float]:
    """Lightning: ``self.log``, torchmetrics, CSVLogger, its progress bar, its checkpoint."""
    trainer = Trainer(
        max_epochs=job.work.epochs if job.train else None,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(job.folder),
        default_root_dir=job.folder,
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    module = Module(job)
    if job.train is None:
        for _ in range(job.work.epochs):
            trainer.validate(module, job.val, verbose=False)
    else:
        trainer.fit(module, job.train, job.val)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def ignite(job: Job) -> dict[str, float]:
    """Ignite: the supervised engines with Accuracy and Loss."""
    loss = nn.CrossEntropyLoss()
    evaluator = create_supervised_evaluator(job.model, {"acc": Accuracy(), "loss": Loss(loss)})
    if job.train is None:
        for _ in range(job.work.epochs):
            evaluator.run(job.val)
        return {f"val/{name}": value for name, value in evaluator.state.metrics.items()}
    optimizer = torch.optim.SGD(job.model.parameters(), lr=LR)
    trainer = create_supervised_trainer(
        job.model, optimizer, loss, output_transform=lambda x, y, y_pred, loss: (y_pred, y)
    )
    Accuracy().attach(trainer, "acc")
    Loss(loss).attach(trainer, "loss")
    if job.val is not None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(job.val))
    trainer.run(job.train, max_epochs=job.work.epochs)
    found = {f"train/{name}": value for name, value in trainer.state.metrics.items()}
    return found | {f"val/{name}": value for name, value in evaluator.state.metrics.items()}


def fabric(job: Job) -> dict[str, float]:
    """Fabric with torchmetrics."""
    engine = Fabric(accelerator="cpu", devices=1)
    model = engine.setup(job.model, *([torch.optim.SGD(job.model.parameters(), lr=LR)] if job.train else []))
    model, optimizer = model if job.train else (model, None)
    return _looped(job, model, optimizer, engine.backward)


def accelerate(job: Job) -> dict[str, float]:
    """Accelerate with torchmetrics."""
    engine = Accelerator(cpu=True)
    model, optimizer = engine.prepare(job.model, torch.optim.SGD(job.model.parameters(), lr=LR))
    return _looped(job, model, optimizer, engine.backward)


def _looped(job: Job, model: Any, optimizer: Any, backward: Any) -> dict[str, float]:
    """Train or evaluate as both libraries' examples do: a loop by hand, with torchmetrics."""
    loss_of = nn.CrossEntropyLoss()
    measured = {
        stage: (MeanMetric(), MulticlassAccuracy(job.work.classes, average="micro")) for stage in ("train", "val")
    }
    found: dict[str, float] = {}
    for _ in range(job.work.epochs):
        for inputs, target in job.train or ():
            optimizer.zero_grad()
            output = model(inputs)
            loss = loss_of(output, target)
            backward(loss)
            optimizer.step()
            measured["train"][0].update(loss.detach(), len(target))
            measured["train"][1].update(output, target)
        if job.train is not None:
            found |= _read("train", *measured["train"])
        if job.val is None:
            continue
        model.eval()
        with torch.no_grad():
            for inputs, target in job.val:
                output = model(inputs)
                measured["val"][0].update(loss_of(output, target), len(target))
                measured["val"][1].update(output, target)
        model.train()
        found |= _read("val", *measured["val"])
    return found


def _read(stage: str, loss: Any, accuracy: Any) -> dict[str, float]:
    found = {f"{stage}/loss": loss.compute().item(), f"{stage}/acc": accuracy.compute().item()}
    loss.reset()
    accuracy.reset()
    return found
