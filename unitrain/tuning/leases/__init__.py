"""Leases: which worker runs which trial, so that the trial of a dead worker is taken over at once.

`lease.py` is the protocol; each storage has its own: locked files beside a journal or SQLite, keys of Redis that name
a live connection, advisory locks of PostgreSQL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from unitrain.tuning.leases.lease import Leases
    from unitrain.tuning.storage.address import Address

_MODULES = {
    "memory": "unitrain.tuning.leases.memory",
    "journal": "unitrain.tuning.leases.files",
    "sqlite": "unitrain.tuning.leases.files",
    "redis": "unitrain.tuning.leases.redis",
    "postgresql": "unitrain.tuning.leases.postgresql",
}


def require_leasable(address: Address) -> None:
    """Refuse a storage whose trials several workers could have.

    Raises:
        ConfigError: If it is unknown, or a file on a system without file locks.
    """
    if address.kind not in _MODULES:
        raise ConfigError(f"storage={str(address)!r} is unknown.", hint="journal:///PATH, redis://, postgresql://")
    module = import_module(_MODULES[address.kind])
    if hasattr(module, "require_locks"):
        module.require_locks(address)


def leases_of(address: Address, study: str) -> Leases:
    """Return the leases of a study stored at ``address``.

    Raises:
        ConfigError: If the storage does not support leases.
    """
    require_leasable(address)
    found: Leases = import_module(_MODULES[address.kind]).make(address, study)
    return found
