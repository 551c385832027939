"""Leases as advisory locks of PostgreSQL, which end with their connection."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING, Any

from unitrain.compat.optuna_redis import redacted
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint
from unitrain.tuning.leases.forked import not_inherited

if TYPE_CHECKING:
    from unitrain.tuning.storage.address import Address

_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "connect_timeout": 5}


class PostgresqlLease:
    """One lock.

    Args:
        leases: The study's leases.
        key: The two numbers of the lock.
    """

    def __init__(self, leases: PostgresqlLeases, key: tuple[int, int]) -> None:
        self._leases = leases
        self._key = key
        self._connection = leases.connection

    def held(self) -> bool:
        """Return whether the connection lives, and the lock with it; one that nobody has taken is taken back."""
        if self._connection is self._leases.connection and self._leases.ask("select true", ()):
            return True
        if not self._leases.locked(self._key):
            return False
        self._connection = self._leases.connection
        return True

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
        try:
            import psycopg  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise BackendNotInstalledError(
                "a study in PostgreSQL requires psycopg.", hint=install_hint("tune")
            ) from error
        scheme, _, rest = url.partition("://")
        self._url = f"{scheme.partition('+')[0]}://{rest}"
        self._psycopg: Any = psycopg
        self._study = _signed(zlib.crc32(study.encode()))
        self._lock = threading.Lock()
        try:
            self.connection: Any = self._connected()
        except psycopg.OperationalError as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"the database at {redacted(url)} does not answer: {reason}",
                hint="postgresql://USER:PASSWORD@HOST/DATABASE",
            ) from None  # the original might show the password
        not_inherited(self)

    def _connected(self) -> Any:
        return self._psycopg.connect(self._url, autocommit=True, **_ALIVE)

    def handles(self) -> list[int]:
        """Return the open connection, for a child that is forked."""
        return [] if self.connection.closed else [self.connection.fileno()]

    def take(self, name: str) -> PostgresqlLease | None:
        """Return the lease of ``name``, or None if a living worker has it."""
        key = (self._study, _signed(zlib.crc32(name.encode())))
        return PostgresqlLease(self, key) if self.locked(key) else None

    def locked(self, key: tuple[int, int]) -> bool:
        """Lock, if nobody else has; connect again, if the connection was lost."""
        if self.connection.closed:
            try:
                self.connection = self._connected()
            except self._psycopg.OperationalError:
                return False  # the server is starting again
        return self.ask("select pg_try_advisory_lock(%s, %s)", key)

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
    """Return the leases of a study stored in PostgreSQL."""
    url: Any = address.url
    return PostgresqlLeases(url, study)
