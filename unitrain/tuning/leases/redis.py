"""Leases in Redis: a key that names the connection of its holder.

``CLIENT LIST`` tells at once that a process has died, since its connection is gone. A time to live covers a host that
was lost without closing it. A thread renews what this process holds.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from unitrain.compat.optuna_redis import connected, connections_of
from unitrain.tuning.leases.forked import not_inherited
from unitrain.tuning.storage.address import PREFIX

if TYPE_CHECKING:
    from unitrain.tuning.storage.address import Address

LOST_AFTER: Final = 30.0
"""Seconds without a renewal after which a holder whose connection seems alive is taken for lost."""
_RENEWED_EVERY: Final = 2.0
_ABSENT_FOR: Final = 1.5
"""Seconds for which a connection must be gone; a client that connects again waits a second at most between tries."""
_UP_FOR: Final = 6
"""Seconds after a server's start in which clients may still be connecting again."""

_RENEW: Final = """
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""A lease that has run out, and that nobody has taken, is still ours."""
_RELEASE: Final = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"
_REPLACE: Final = """
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class RedisLease:
    """One key.

    Args:
        leases: The study's leases.
        key: Name of the key.
    """

    def __init__(self, leases: RedisLeases, key: str) -> None:
        self._leases = leases
        self.key = key

    def held(self) -> bool:
        """Return whether the key still names our connection."""
        return self._leases.holds(self.key)

    def release(self) -> None:
        """Delete the key, if it is still ours."""
        self._leases.give_back(self.key)


class RedisLeases:
    """The leases of a study.

    Args:
        url: The server.
        study: The study's name.
    """

    def __init__(self, url: str, study: str) -> None:
        self._token = f"unitrain-{uuid.uuid4().hex}"
        self._client = connected(url, self._token)
        self._prefix = f"{PREFIX}:lease:{study}:"
        self._renew, self._release, self._replace = map(self._client.register_script, (_RENEW, _RELEASE, _REPLACE))
        self._keys: set[str] = set()
        self._absent: dict[str, float] = {}
        self._lock = threading.Lock()  # one request at a time, so one connection: it is what says that we live
        self._over = threading.Event()
        not_inherited(self)
        self._renewer = threading.Thread(target=self._renewing, name="unitrain-leases", daemon=True)
        self._renewer.start()

    def take(self, name: str) -> RedisLease | None:
        """Return the lease of ``name``, or None if a living worker has it."""
        key = f"{self._prefix}{name}"
        with self._lock:
            taken = self._client.set(key, self._token, nx=True, px=int(LOST_AFTER * 1000))
            holder = None if taken else self._client.get(key)
            if not taken and (holder is None or not self._take_over(key, holder)):
                return None
            self._keys.add(key)
        return RedisLease(self, key)

    def _take_over(self, key: str, holder: bytes) -> bool:
        """Take a lease whose holder has died."""
        if holder.decode() == self._token:
            return True  # the answer to our first try was lost
        if not self._is_gone(holder.decode()):
            return False
        return bool(self._replace(keys=[key], args=[holder, self._token, int(LOST_AFTER * 1000)]))

    def _is_gone(self, token: str) -> bool:
        """Return whether the connection of that name has been gone for a while."""
        if token in {one.get("name") for one in self._client.client_list()}:
            self._absent.pop(token, None)
            return False
        since = self._absent.setdefault(token, time.monotonic())
        if time.monotonic() - since < _ABSENT_FOR:
            return False
        return int(self._client.info("server")["uptime_in_seconds"]) >= _UP_FOR

    def holds(self, key: str) -> bool:
        """Return whether a lease is still ours."""
        with self._lock:
            return key in self._keys and self._renewed(key)

    def _renewed(self, key: str) -> bool:
        return bool(self._renew(keys=[key], args=[self._token, int(LOST_AFTER * 1000)]))

    def give_back(self, key: str) -> None:
        """Release a lease; where the server is away it runs out by itself."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        with self._lock, suppress(RedisError, OSError):
            self._keys.discard(key)
            self._release(keys=[key], args=[self._token])

    def _renewing(self) -> None:
        while not self._over.wait(_RENEWED_EVERY):
            with self._lock, suppress(Exception):  # a server that is away is tried again
                self._client.ping()
                for key in self._keys:
                    self._renewed(key)

    def close(self) -> None:
        """End the thread, and the connection."""
        self._over.set()
        for one in connections_of(self._client):
            one.retry.seconds = 0.0  # the thread must not wait for a server that is away
        self._renewer.join()
        self._client.close()

    def handles(self) -> list[int]:
        """Return the open connections, for a child that is forked."""
        known = connections_of(self._client)
        return [one._sock.fileno() for one in known if one._sock is not None]  # noqa: SLF001 - there is no public way


def make(address: Address, study: str) -> RedisLeases:
    """Return the leases of a study stored in Redis."""
    url: Any = address.url
    return RedisLeases(url, study)
