"""Cases with several loaders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from unitrain.data.combined import CombinedLoader
from unitrain.testing import cases
from unitrain.testing.models import BATCH, CLASSES, loader
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from unitrain.data.combined import Mode


def several() -> Mapping[str, Any]:
    """Return loaders of all kinds to evaluate on: noisy, a list of batches, shuffled, without a length."""
    return {
        "noisy": cases.DATA["noisy"](),
        "list": cases.DATA["list"](),
        "small": loader(samples=6),
        "stream": cases.DATA["stream"](),
    }


def side_by_side(mode: Mode) -> CombinedLoader:
    """Return loaders of other lengths and kinds, which draw random numbers, in one."""
    loaders = {"noisy": cases.DATA["noisy"](), "small": loader(samples=10), "list": cases.DATA["list"]()[:4]}
    return CombinedLoader(loaders, mode)


def streams() -> CombinedLoader:
    """Return a loader without a length beside one that is restarted again and again."""
    return CombinedLoader({"stream": cases.DATA["stream"](), "short": loader(samples=10)}, "max_size_cycle")


def side_by_side_step(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the loss over the batches of all loaders."""
    pairs = [pair for pair in batch.values() if pair is not None]
    output, target = (torch.cat([model(pair[0]) for pair in pairs]), torch.cat([pair[1] for pair in pairs]))
    return {"loss": cross_entropy(output, target), "output": output, "target": target}


def samples_of(batch: Any) -> int:
    """Return the number of samples of a batch, or of one batch of each loader."""
    pairs = batch.values() if isinstance(batch, dict) else [batch]
    return sum(len(pair[1]) for pair in pairs if pair is not None)


def combined_cases() -> list[Case]:
    """Return the modes of a CombinedLoader, a mapping of loaders, and loaders without a length."""
    each = partial(cases.spec, training_step=side_by_side_step, batch_size=samples_of)
    modes: tuple[Mode, ...] = ("min_size", "max_size_cycle", "max_size")
    limits = {"limit_train_batches": 5, "accumulate_grad_batches": 2}
    return [
        *(Case(name=f"combined-{mode}", spec=each, train=partial(side_by_side, mode), val=loader) for mode in modes),
        Case(name="combined-sequential", spec=cases.spec, train=partial(side_by_side, "sequential"), val=loader),
        Case(name="combined-mapping", spec=each, train=lambda: side_by_side("min_size").loaders, options=limits),
        Case(name="combined-streams", spec=each, train=streams),
    ]


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
        *combined_cases(),
        Case(name="several-drawing", spec=cases.step_cases()[1].spec, train=noisy, val=several),
    ]
