"""Leases as advisory locks of PostgreSQL, which end with their connection."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING, Any

from unitrain.tuning.leases.forked import not_inherited

if TYPE_CHECKING:
    from unitrain.tuning.storage.address import Address

_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "connect_timeout": 5}


class PostgresqlLease:
    """One lock.

    Args:
        leases: Whose it is.
        key: Two numbers.
    """

    def __init__(self, leases: PostgresqlLeases, key: tuple[int, int]) -> None:
        self._leases = leases
        self._key = key
        self._connection = leases.connection

    def held(self) -> bool:
        """Return whether the connection lives, and the lock with it."""
        return self._connection is self._leases.connection and self._leases.ask("select true", ())

    def release(self) -> None:
        """Release the lock."""
        self._leases.ask("select pg_advisory_unlock(%s, %s)", self._key)


class PostgresqlLeases:
    """The leases of a study.

    Args:
        url: The database.
        study: The study's name.
    """

    def __init__(self, url: str, study: str) -> None:
        import psycopg  # noqa: PLC0415 - an extra

        scheme, _, rest = url.partition("://")
        self._url = f"{scheme.partition('+')[0]}://{rest}"
        self._psycopg: Any = psycopg
        self._study = _signed(zlib.crc32(study.encode()))
        self._lock = threading.Lock()
        self.connection: Any = self._connected()
        not_inherited(self)

    def _connected(self) -> Any:
        return self._psycopg.connect(self._url, autocommit=True, **_ALIVE)

    def handles(self) -> list[int]:
        """Return the open connection, for a child that is forked."""
        return [] if self.connection.closed else [self.connection.fileno()]

    def take(self, name: str) -> PostgresqlLease | None:
        """Return the lease of ``name``, or None if a living worker has it."""
        if self.connection.closed:
            try:
                self.connection = self._connected()
            except self._psycopg.OperationalError:
                return None  # the server is starting again
        key = (self._study, _signed(zlib.crc32(name.encode())))
        return PostgresqlLease(self, key) if self.ask("select pg_try_advisory_lock(%s, %s)", key) else None

    def ask(self, query: str, values: tuple[int, ...]) -> bool:
        """Return the answer of the database; False if the connection is lost."""
        with self._lock:
            try:
                return bool(self.connection.execute(query, values).fetchone()[0])
            except self._psycopg.OperationalError:
                self.connection.close()
                return False

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def make(address: Address, study: str) -> PostgresqlLeases:
    """Return the leases of a study that is kept in PostgreSQL."""
    url: Any = address.url
    return PostgresqlLeases(url, study)
