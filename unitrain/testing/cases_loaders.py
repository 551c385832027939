"""Cases with several loaders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from unitrain.testing import cases
from unitrain.testing.models import BATCH, CLASSES, loader
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from collections.abc import Mapping


def several() -> Mapping[str, Any]:
    """Return loaders of all kinds to evaluate on: noisy, a list of batches, shuffled, without a length."""
    return {
        "noisy": cases.DATA["noisy"](),
        "list": cases.DATA["list"](),
        "small": loader(samples=6),
        "stream": cases.DATA["stream"](),
    }


def drawn(samples: int) -> DataLoader[Any]:
    """Return a loader of random samples, drawn when it is made."""
    data = TensorDataset(torch.randn(samples, 36), torch.randint(0, CLASSES, (samples,)))
    return DataLoader(data, batch_size=BATCH, shuffle=True)


def growing(epoch: int) -> DataLoader[Any]:
    """Return a loader with more samples in a later epoch."""
    return drawn(14 + 2 * epoch)


def loader_cases() -> list[Case]:
    """Return the ways to give several loaders."""
    busy = cases.handler_cases()[0].spec
    plateau = replace(cases.SCHEDULES["plateau"], monitor="val/small/loss")
    watched = partial(cases.spec, "cnn", "sgd", lr_scheduler=plateau)
    noisy = cases.DATA["noisy"]
    limits = {"limit_val_batches": 2, "val_check_interval": 2}
    return [
        Case(name="several-validations", spec=busy, train=noisy, val=several),
        Case(name="several-limited", spec=watched, train=noisy, val=several, options=limits),
        Case(name="several-in-a-list", spec=cases.spec, train=loader, val=lambda: [loader(samples=10), noisy()]),
        Case(name="sanity", spec=busy, train=noisy, val=several, options={"num_sanity_val_steps": 2}),
        Case(
            name="reloaded",
            spec=watched,
            train=lambda: growing,
            val=lambda: lambda: {"small": loader(samples=6), "drawn": drawn(10)},
            options={"reload_dataloaders_every_n_epochs": 2, "max_epochs": 6, "accumulate_grad_batches": 2},
        ),
        Case(name="several-drawing", spec=cases.step_cases()[1].spec, train=noisy, val=several),
    ]
