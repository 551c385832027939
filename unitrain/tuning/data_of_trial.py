"""The data of a study that a single function makes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError
from unitrain.utilities.rng import preserved_rng, seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable

_PAIR = 2


@dataclass(frozen=True)
class DataOfTrial:
    """A function of the trial that returns training and validation data together.

    Attributes:
        name: Name of the function, for messages.
        function: Takes a trial, and returns ``(train, val)`` or training data alone.
    """

    name: str
    function: Callable[[Any], Any]

    def __call__(self, trial: Any) -> Any:
        """Return the data of a trial."""
        train, val = _both(self.name, self.function(trial))
        return train if val is None else DataSpec(train=train, val=val)


def once(name: str, function: Callable[[], Any], seed: int) -> dict[str, Any]:
    """Return the data of all trials, as arguments of ``tune``.

    A split that the function draws is the same in each call for a study, and on each machine.

    Args:
        name: Name of the function, for messages.
        function: Takes nothing.
        seed: Seed of the study.

    Raises:
        ConfigError: If it takes anything, or does not return data.
    """
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise ConfigError(
            f"--data {name!r} must take nothing, or one argument called trial: {error}.", hint="def loaders(trial): ..."
        ) from error
    with preserved_rng():
        seed_everything(seed)
        train, val = _both(name, function())
    return {"train": train, "val": val}


def _both(name: str, made: Any) -> tuple[Any, Any]:
    """Return training and validation data.

    Raises:
        ConfigError: If there are more, or fewer.
    """
    if not isinstance(made, tuple):
        return made, None
    if len(made) != _PAIR:
        raise ConfigError(
            f"--data {name!r} returned a tuple of {len(made)}; (train, val) are two.", hint="return train, val"
        )
    return made
