"""A framework's own code on another backend, timed beside the same code at home."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Engine, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from tests.bench.timing import measured
from tests.bench.work import LR, Job, Work, collated, fully_connected
from unitrain import UnifiedTrainer, from_engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.bench.timing import Variant


class Module(LightningModule):
    """Overrides what it must, and logs a loss and an accuracy.

    Args:
        model: What it trains.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Train on a batch."""
        inputs, target = batch
        output = self.model(inputs)
        loss = nn.functional.cross_entropy(output, target)
        self.log("loss", loss)
        self.log("acc", (output.argmax(1) == target).float().mean())
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=LR)


_BARE = {"enable_checkpointing": False, "enable_model_summary": False}


def _options(job: Job) -> dict[str, Any]:
    return {
        "max_epochs": job.work.epochs,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "default_root_dir": job.folder,
    }


def plain_lightning(job: Job) -> dict[str, float]:
    """Train a LightningModule as Lightning does, with nothing switched on."""
    Trainer(**_options(job), **_BARE, logger=False, devices=1).fit(Module(job.model), job.train)
    return {}


def module_on(framework: str) -> Variant:
    """Return what trains the same module on ``framework``."""

    def run(job: Job) -> dict[str, float]:
        bare = {"loggers": [], "native": {"lightning": _BARE}}
        UnifiedTrainer(framework, **_options(job), **bare).fit(Module(job.model), job.train)
        return {}

    return run


def _empty(_job: Job) -> Engine:
    return Engine(lambda engine, batch: None)


def _supervised(job: Job) -> Engine:
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(job.model.parameters(), lr=LR)
    engine = create_supervised_trainer(
        job.model, optimizer, loss, output_transform=lambda x, y, y_pred, loss: (y_pred, y)
    )
    Accuracy().attach(engine, "acc")
    Loss(loss).attach(engine, "loss")
    return engine


def plain_ignite(program: Any) -> Variant:
    """Return what runs an Ignite program as Ignite does."""

    def run(job: Job) -> dict[str, float]:
        return dict(program(job).run(job.train, max_epochs=job.work.epochs).metrics)

    return run


def program_on(framework: str, program: Any) -> Variant:
    """Return what runs the same program on ``framework``."""

    def run(job: Job) -> dict[str, float]:
        engine = program(job)
        UnifiedTrainer(framework, **_options(job)).fit(from_engine(engine), job.train)
        return dict(engine.state.metrics)

    return run


@dataclass(frozen=True)
class Comparison:
    """A work, at home and elsewhere.

    Attributes:
        work: What is trained.
        home: How its own framework does it.
        elsewhere: The same on other backends, and the ratio that is not to be passed.
    """

    work: Work
    home: Variant
    elsewhere: Mapping[str, tuple[Variant, float]]


def _work(name: str, says: str, epochs: int, batches: int | None = None) -> Work:
    return Work(name, says, lambda: fully_connected(64, 32, 10), 10, epochs, collated(32, batches))


COMPARISONS = (
    Comparison(
        _work("module", "a LightningModule that logs a loss and an accuracy", 10),
        plain_lightning,
        {"ignite": (module_on("ignite"), 0.30), "reference": (module_on("reference"), 0.30)}
        | {"lightning": (module_on("lightning"), 1.02)},
    ),
    Comparison(
        _work("empty engine", "an Ignite program whose step does nothing", 300),
        plain_ignite(_empty),
        {"lightning": (program_on("lightning", _empty), 4.0)},
    ),
    Comparison(
        _work("engine", "an Ignite program of W1p with a loss and an accuracy attached", 10),
        plain_ignite(_supervised),
        {"lightning": (program_on("lightning", _supervised), 1.5)},
    ),
    Comparison(
        _work("module's start", "one step of the LightningModule", 1, 1),
        plain_lightning,
        {"ignite": (module_on("ignite"), 1.2), "reference": (module_on("reference"), 1.2)},
    ),
)
"""The goals of what foreign code costs; each comparison also shows that both reach the same weights and metrics."""


def compared(rounds: int) -> Iterator[dict[str, Any]]:
    """Yield what each comparison found, as rows of a table."""
    for one in COMPARISONS:
        variants = {name: variant for name, (variant, _) in one.elsewhere.items()}
        for name, times in measured(one.work, one.home, variants, rounds).items():
            limit, reached = one.elsewhere[name][1], median(times.cpu_ratios)
            yield {
                "work": one.work.name,
                "says": one.work.says,
                "on": name,
                "reached": reached,
                "limit": limit,
                "met": reached <= limit,
            }
