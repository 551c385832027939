"""Cases with several loaders."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.testing import cases
from unitrain.testing.models import loader
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
        Case(name="several-drawing", spec=cases.step_cases()[1].spec, train=noisy, val=several),
    ]
