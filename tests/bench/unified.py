"""unitrain as a user has it: metrics, a progress bar, a CSV file and callbacks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from tests.bench.work import LR, Job
from unitrain import CSVLogger, LRMonitor, ModelCheckpoint, TrainSpec, UnifiedTrainer, metric

if TYPE_CHECKING:
    from collections.abc import Callable


def unitrain(framework: str) -> Callable[[Job], dict[str, float]]:
    """Return what does a job on ``framework``."""

    def run(job: Job) -> dict[str, float]:
        spec = TrainSpec(
            model=job.model,
            loss=nn.CrossEntropyLoss(),
            optimizer=partial(torch.optim.SGD, lr=LR),
            metrics={"acc": metric("accuracy", num_classes=job.work.classes, average="micro")},
        )
        options = {"accelerator": "cpu", "loggers": [CSVLogger(job.folder)], "default_root_dir": job.folder}
        if job.train is None:
            trainer = UnifiedTrainer(framework, **options)
            for _ in range(job.work.epochs):
                found = trainer.validate(spec, job.val)
            return found
        keep = [LRMonitor()] + [ModelCheckpoint(job.folder)] * (framework != "reference")
        trainer = UnifiedTrainer(framework, max_epochs=job.work.epochs, callbacks=keep, **options)
        return trainer.fit(spec, job.train, job.val).metrics

    return run
