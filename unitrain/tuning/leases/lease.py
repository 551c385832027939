"""The lease protocols."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 60.0
_PAUSE = 0.05


class Lease(Protocol):
    """The right to work on one trial."""

    def held(self) -> bool:
        """Return whether it is still ours; it is not if we were stopped so long that another took it."""

    def release(self) -> None:
        """Give it back."""


class Leases(Protocol):
    """The leases of one study."""

    def take(self, name: str) -> Lease | None:
        """Return the lease of ``name``, or None if a living worker has it."""

    def close(self) -> None:
        """Release the connection."""


@contextmanager
def alone(leases: Leases, name: str) -> Iterator[None]:
    """Wait until nobody else holds the lease of ``name``, and hold it.

    Raises:
        ConfigError: If another process holds it for a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    while (lease := leases.take(name)) is None:
        if time.monotonic() > deadline:
            raise ConfigError(
                f"another process has been preparing the study for {_PATIENCE:.0f} s.",
                hint="check whether that process is suspended.",
            )
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        lease.release()
