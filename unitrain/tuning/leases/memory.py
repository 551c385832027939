"""Leases of a study in memory, which has a single worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitrain.tuning.storage.address import Address


class _Ours:
    def held(self) -> bool:
        return True

    def release(self) -> None:
        """Do nothing."""


class MemoryLeases:
    """Everything is ours."""

    def take(self, name: str) -> _Ours:  # noqa: ARG002 - as other leases have it
        """Return a lease."""
        return _Ours()

    def close(self) -> None:
        """Do nothing."""


def make(address: Address, study: str) -> MemoryLeases:  # noqa: ARG001 - as other leases have it
    """Return the leases of a study."""
    return MemoryLeases()
