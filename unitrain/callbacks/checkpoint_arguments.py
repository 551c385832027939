"""Checks of the arguments of a ModelCheckpoint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from unitrain.errors import ConfigError
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    from collections.abc import Container
    from datetime import timedelta

_METRIC = re.compile(r"(train|val|test)/(\w+/)*(?P<name>\w+)")
_MEASURED = frozenset(
    (
        *("loss", "error", "acc", "accuracy", "precision", "recall", "specificity", "f1", "auc", "auroc", "roc"),
        *("average_precision", "mae", "mse", "rmse", "r2", "iou", "miou", "jaccard", "dice", "map"),
        *("perplexity", "bleu", "rouge", "wer", "cer"),
    )
)
"""What metrics are commonly called."""


def require_folder(given: str, logged: Container[str] = ()) -> None:
    """Refuse a new folder with the name of a metric, which was surely meant as ``monitor``.

    Args:
        given: The folder, as text.
        logged: The metrics of the fit, if they are known.

    Raises:
        ConfigError: If it does; the message shows both spellings.
    """
    found = _METRIC.fullmatch(given)
    if found is None or not (given in logged or found["name"] in _MEASURED) or user_path(given).exists():
        return
    raise ConfigError(
        f"ModelCheckpoint({given!r}) would create a folder with the name of a metric.",
        hint=f"ModelCheckpoint(monitor={given!r}); for the folder, ModelCheckpoint(Path({given!r})).",
    )


def require_counts(save_top_k: object, interval: timedelta | None, **every: object) -> None:
    """Refuse counts that are none, and more than one interval.

    Args:
        save_top_k: The argument of this name.
        interval: The time between two files, or None.
        **every: The other intervals by name, or None.

    Raises:
        ConfigError: If a count is invalid, or there are several intervals.
    """
    _require_count("save_top_k", save_top_k, -1)
    given = {name: value for name, value in every.items() if value is not None}
    for name, value in given.items():
        _require_count(name, value, 1)
    if len(given) + (interval is not None) > 1:
        raise ConfigError(
            f"ModelCheckpoint takes one of {', '.join(every)} and train_time_interval.",
            hint="use two ModelCheckpoints.",
        )


def require_alone(*, asynchronous: bool, sharded: bool) -> None:
    """Refuse to write shards in a thread.

    Raises:
        ConfigError: If both are asked for.
    """
    if asynchronous and sharded:
        raise ConfigError(
            "ModelCheckpoint(asynchronous=True, sharded=True): all processes write their shards together, at once.",
            hint="remove one of the two.",
        )


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"ModelCheckpoint({name}=) must be an integer of at least {least}, got {value!r}.", hint=f"{name}=1"
        )
