"""What type checkers accept."""

from collections.abc import Callable
from functools import partial
from typing import assert_type

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import DataSpec, Event, FitResult, RunContext, TrainSpec, UnifiedTrainer, from_engine

loader = DataLoader(TensorDataset(torch.randn(8, 4), torch.randn(8, 1)), 4)
spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer("lightning", max_epochs=2)
UnifiedTrainer(framework="of another package")


class Module:
    """As a LightningModule."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return batch.sum() + batch_idx

    def configure_optimizers(self) -> None: ...


class DataModule:
    """As a LightningDataModule."""

    def train_dataloader(self) -> object: ...


class Engine:
    """As an engine of Ignite."""

    state: object = None

    def run(self, data: object, max_epochs: int = 1) -> object: ...

    def add_event_handler(self, event: object, handler: object) -> object: ...


assert_type(trainer.fit(spec, loader), FitResult)
trainer.fit(spec, [(torch.randn(8, 4), torch.randn(8, 1))], {"clean": loader, "noisy": loader}, ckpt_path="last")
trainer.fit(spec, DataSpec(train=loader))
trainer.fit(spec, lambda: loader)
trainer.fit(Module(), DataModule())
trainer.fit(Engine(), loader)
trainer.fit(from_engine(Engine()), loader)
trainer.train(nn.Linear(4, 1), loader, loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer.validate(ckpt_path="best")
trainer.predict(dataloaders=loader)


@trainer.on(Event.EPOCH_END(every=2) | Event.FIT_END)
def report(run: RunContext) -> float:
    return run.state.metrics["val/loss"]


@trainer.on(Event.BATCH_END)
def quiet() -> None: ...


assert_type(trainer.on(Event.FIT_START, quiet), Callable[[], None])


def keeps_its_type(run: RunContext) -> None:
    assert_type(report(run), float)
