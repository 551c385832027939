"""Shuts down loader workers, however a run ends."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet


class Workers:
    """The iterators of a run that have worker processes."""

    def __init__(self) -> None:
        self._watched: WeakSet[Any] = WeakSet()

    def watch(self, iterator: Any) -> Any:
        """Return ``iterator``, and remember it if it has workers."""
        if callable(getattr(iterator, "_shutdown_workers", None)):
            self._watched.add(iterator)
        return iterator

    def close(self, loader: Any) -> None:
        """End all workers, including those that ``loader`` keeps for its next epoch.

        An error's traceback refers to the iterator, and so keeps the workers alive as long as the error.
        """
        for iterator in list(self._watched):
            iterator._shutdown_workers()  # noqa: SLF001 - there is no public way
            if getattr(loader, "_iterator", None) is iterator:
                loader._iterator = None  # noqa: SLF001 - else the next epoch would wait for dead workers
        self._watched.clear()
