"""unitrain: as a user has it, with metrics, a progress bar, a CSV file and callbacks; and with less."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tests.bench.work import LR, Job
from unitrain import CSVLogger, EarlyStopping, LRMonitor, TrainSpec, UnifiedTrainer, metric
from unitrain import vectorized as unitrain_vectorized

if TYPE_CHECKING:
    from collections.abc import Callable

    Variant = Callable[[Job], dict[str, float]]


def unitrain(framework: str, **options: Any) -> Variant:
    """Return what does a job on ``framework`` with all that a user has, and further arguments of the trainer."""

    def run(job: Job) -> dict[str, float]:
        callbacks = [LRMonitor(), EarlyStopping(monitor="train/loss", patience=1000)] if job.train else []
        return _done(job, framework, callbacks=callbacks, loggers=[CSVLogger(job.folder)], **options)

    return run


def vectorized(framework: str) -> Variant:
    """Return what does a job on ``framework`` with all that a user has, and whole batches fetched at once."""
    run = unitrain(framework)
    return lambda job: run(replace(job, train=unitrain_vectorized(job.train)))


def metrics_only(framework: str) -> Variant:
    """Return what does a job on ``framework`` with a loss and an accuracy."""
    return lambda job: _done(job, framework, enable_progress_bar=False)


def plain(framework: str) -> Variant:
    """Return what does a job on ``framework`` with nothing but the loss."""
    return lambda job: _done(job, framework, measured=False, enable_progress_bar=False)


def _done(job: Job, framework: str, *, measured: bool = True, **options: Any) -> dict[str, float]:
    spec = TrainSpec(
        model=job.model,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=LR),
        metrics={"acc": metric("accuracy", num_classes=job.work.classes, average="micro")} if measured else None,
    )
    options = {"accelerator": "cpu", "default_root_dir": job.folder, **options}
    if job.train is not None:
        return UnifiedTrainer(framework, max_epochs=job.work.epochs, **options).fit(spec, job.train, job.val).metrics
    trainer = UnifiedTrainer(framework, **options)
    for _ in range(job.work.epochs):
        found = trainer.validate(spec, job.val)
    return found
