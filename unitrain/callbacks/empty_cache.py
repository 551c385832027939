"""Frees cached device memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.run.hub import Event, Trigger, Triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from unitrain.run.context import RunContext

_CACHES: dict[str, Callable[[], None]] = {"cuda": torch.cuda.empty_cache, "mps": torch.mps.empty_cache}


@named_arguments(ConfigError, callback_arguments_for)
class EmptyCache(Callback):
    """Frees the memory that torch caches on the model's device; does nothing on a CPU.

    It frees memory for other processes, not for torch, and takes time.

    Args:
        on: When to free it: an Event, such as ``Event.BATCH_END(every=100)``, or several joined by ``|``.

    Raises:
        SpecError: If ``on`` is not an event.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[EmptyCache()])
    """

    def __init__(self, on: Event | Trigger | Triggers = Event.EPOCH_END) -> None:
        Triggers.of(on)  # raises if it is not an event
        self._on = on

    def extra_handlers(self) -> Iterable[tuple[Event | Trigger | Triggers, Callable[..., Any]]]:
        """Return the one handler, for the events that were chosen."""
        return ((Triggers.of(self._on), self.empty),)

    def empty(self, run: RunContext) -> None:
        """Free the cache of the device that the model is on."""
        parameter = next(run.model.parameters(), None)
        if parameter is not None and parameter.device.type in _CACHES:
            _CACHES[parameter.device.type]()
