"""An Optuna journal in Redis: it pickles nothing, reads many records at once and detects a server that lost records.

The keys are those of Optuna's ``JournalRedisBackend``, so each can read the other's records.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from unitrain.errors import ConfigError
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_AT_ONCE: Final = 1000
"""How many records one request reads."""
CONNECT_SECONDS: Final = 5
PATIENCE: Final = 60.0
"""For how many seconds a server that is away is tried again."""
_GLANCE: Final = 2.0
"""For how many, by who only reads a study."""

_APPEND: Final = """
local prefix, seen = ARGV[1], tonumber(ARGV[2])
local last = tonumber(redis.call('get', KEYS[1]) or '-1')
if last < seen then return false end
if seen >= 0 and redis.call('get', prefix .. ':log:' .. seen) ~= ARGV[3] then return false end
if redis.call('get', KEYS[2]) ~= ARGV[4] then
  for index = 5, #ARGV do
    last = last + 1
    redis.call('set', prefix .. ':log:' .. last, ARGV[index])
  end
  redis.call('set', KEYS[1], last)
  redis.call('set', KEYS[2], ARGV[4], 'EX', 86400)
end
local found = {}
for number = seen + 1, math.min(last, seen + 1000) do
  found[#found + 1] = redis.call('get', prefix .. ':log:' .. number)
end
return found
"""
"""Appends all records or none, and returns what is new since the newest record that was read.

A second try after a lost answer appends nothing. False: the newest record that was read is gone.
"""


class ServerAwayError(ConfigError):
    """The server of a study does not answer; what it has is not lost."""


def redacted(url: str) -> str:
    """Return an address without its password.

    Example:
        >>> redacted("redis://:secret@host:6379/0")
        'redis://:***@host:6379/0'
    """
    shown = _PASSWORD.sub(r"\1:***@", url)
    return _QUERY.sub(r"\1***", shown)


_PASSWORD: Final = re.compile(r"(://[^:/@?#]*):.*@")
_QUERY: Final = re.compile(r"([?&](?:password|passwd|pwd)=)[^&#]*", re.IGNORECASE)


def connected(url: str, name: str | None = None) -> Any:
    """Return a client of the Redis server at ``url``, which answers, and which tries again for a minute later on.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        name: Name of the connection on the server.

    Raises:
        ConfigError: If the server does not answer within five seconds; the password is not shown.
    """
    import redis  # noqa: PLC0415 - an extra
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    limits: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "client_name": name}
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=CONNECT_SECONDS, **limits) as first:
            first.ping()
    except (RedisError, OSError, ValueError) as error:
        raise _away(url, error) from None  # the original may show the password
    return _client(url, name)


def _client(url: str, name: str | None = None, patience: float = PATIENCE, answers_within: float = 30) -> Any:
    import redis  # noqa: PLC0415 - an extra
    from redis.exceptions import ConnectionError as Lost  # noqa: PLC0415
    from redis.exceptions import TimeoutError as Late  # noqa: PLC0415

    return redis.Redis.from_url(
        url,
        client_name=name,
        retry=Patience(patience, (Lost, Late, OSError)),
        socket_timeout=answers_within,
        socket_connect_timeout=CONNECT_SECONDS,
    )


class Patience:
    """Tries again for some seconds since the server answered last; redis-py has a copy in each connection.

    redis-py's own Retry counts, and counts twice: the tries to connect within each try of a command. Sixty tries, of a
    second each, so may take an hour.

    Attributes:
        seconds: For how long.

    Args:
        seconds: For how long.
        errors: Those that are tried again.
    """

    def __init__(self, seconds: float, errors: tuple[type[Exception], ...]) -> None:
        self.seconds = seconds
        self._errors = errors
        self._away_since: float | None = None

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., object],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        """Return what ``do`` returns; tell ``fail`` of each error."""
        began, failures = math.inf, 0
        while True:
            try:
                found = do()
            except self._errors as error:
                if is_retryable is not None and not is_retryable(error):
                    raise
                failures += 1
                fail(error, failures) if with_failure_count else fail(error)
                now = time.monotonic()
                began = min(began, now)  # a server that only accepts connections does not answer
                self._away_since = now if self._away_since is None else self._away_since
                if now - min(began, self._away_since) >= self.seconds:
                    raise
                time.sleep(min(1.0, 0.05 * 2**failures))
            else:
                self._away_since = None
                return found

    def get_retries(self) -> int:
        """Return how many tries there are at most: they are not counted."""
        return sys.maxsize

    def update_supported_errors(self, errors: Iterable[type[Exception]]) -> None:
        """Try again after these errors, too."""
        self._errors = (*self._errors, *errors)


def connections_of(client: Any) -> list[Any]:
    """Return the connections of a client, used and unused."""
    pool = client.connection_pool
    return [*pool._available_connections, *pool._in_use_connections]  # noqa: SLF001 - there is no public way


def _away(url: str, error: Exception) -> ServerAwayError:
    return ServerAwayError(
        f"the Redis server at {redacted(url)} does not answer: {_scrubbed(error, url)}.",
        hint="redis://HOST:6379/0, or redis://:PASSWORD@HOST:6379/0; is the server running?",
    )


def _secrets(url: str) -> list[str]:
    found = [*_PASSWORD.finditer(url), *_QUERY.finditer(url)]
    return [one[0].removeprefix(one[1]).removeprefix(":").removesuffix("@") for one in found]


def _scrubbed(error: Exception, url: str) -> str:
    text = str(error).replace(url, redacted(url))
    for password in _secrets(url):
        for one in {password, unquote(password)} - {""}:
            text = text.replace(one, "***")
    return text


class RedisJournal:
    """The records of studies on a Redis server, for ``optuna.storages.JournalStorage``.

    Args:
        url: The server.
        prefix: Prefix of the keys.

    Raises:
        ConfigError: If the server does not answer, or may evict records.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = prefix
        self._open()
        _require_durable(self._client, redacted(url))

    def __repr__(self) -> str:
        """Return the address, without its password."""
        return f"RedisJournal({redacted(self._url)!r}, prefix={self._prefix!r})"

    def __getstate__(self) -> dict[str, str]:
        """Leave out the connection."""
        return {"_url": self._url, "_prefix": self._prefix}

    def __setstate__(self, state: dict[str, str]) -> None:
        """Connect again."""
        self.__dict__.update(state)
        self._open()

    def hurry(self) -> None:
        """Wait a few seconds only for a server that is away, as from now on nobody works on the study."""
        self._client.close()
        self._talk(_client(self._url, patience=_GLANCE, answers_within=CONNECT_SECONDS))

    def _talk(self, client: Any) -> None:
        self._client = client
        self._append = client.register_script(_APPEND)

    def _open(self) -> None:
        self._talk(connected(self._url))
        self._writer, self._appended = uuid.uuid4().hex, 0
        self._seen: tuple[int, bytes] = (-1, b"")
        self._news: list[bytes | None] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records from a number on.

        Raises:
            ConfigError: If the server has lost records that were read before.
        """
        news, self._news = self._news, []
        if news and log_number_from == self._seen[0] + 1:  # what the append has just returned is as new as can be
            yield from self._read(log_number_from, news)
            if len(news) < _AT_ONCE:
                return
            log_number_from += len(news)
        number, text = self._seen
        last, same = self._records(self._counter, self._record(number))
        newest = -1 if last is None else int(last)
        if newest < number or (number >= 0 and same != text):
            raise self._went_back()
        for first in range(log_number_from, newest + 1, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, newest + 1))
            yield from self._read(first, self._records(*map(self._record, numbers)))

    def _records(self, *keys: str) -> list[bytes | None]:
        with self._answering():
            found: list[bytes | None] = self._client.mget(keys)
        return found

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Say in one sentence that the server is away.

        Raises:
            ServerAwayError: If it is.
        """
        from redis.exceptions import ConnectionError as Lost  # noqa: PLC0415 - an extra
        from redis.exceptions import TimeoutError as Late  # noqa: PLC0415

        try:
            yield
        except (Lost, Late, OSError) as error:
            raise _away(self._url, error) from None  # the original may show the password

    def _read(self, first: int, records: list[bytes | None]) -> Iterator[dict[str, Any]]:
        for number, record in enumerate(records, first):
            if record is None:
                raise self._went_back()
            self._seen = (number, record)
            yield json.loads(record)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records: all of them, or none.

        Raises:
            ConfigError: If the server has lost records that were read before; then nothing is written.
        """
        self._appended += 1
        number, text = self._seen
        given = [self._prefix, number, text, self._appended, *(json.dumps(one) for one in logs)]
        with self._answering():
            news = self._append(keys=[self._counter, f"{self._prefix}:writer:{self._writer}"], args=given)
        if news is _GONE:
            raise self._went_back()
        self._news = news

    @property
    def _counter(self) -> str:
        return f"{self._prefix}:log_number"

    def _record(self, number: int) -> str:
        return f"{self._prefix}:log:{number}"

    def _went_back(self) -> ConfigError:
        return ConfigError(
            f"the Redis server at {redacted(self._url)} went back to an older state, or lost records that"
            " this process has read. Nothing was written.",
            hint="restore the server's newest data, or use a new study_name=; `appendonly yes` keeps all records.",
        )


_GONE = None
"""What a script's false becomes."""


def _require_durable(client: Any, shown: str) -> None:
    """Refuse a server that drops records when its memory is full; warn of one that forgets them at a restart.

    Raises:
        ConfigError: If it evicts.
    """
    from redis.exceptions import ResponseError  # noqa: PLC0415 - an extra

    try:
        about = client.info("everything")
    except ResponseError:
        warn_caller(
            f"the Redis server at {shown} does not say whether it evicts or persists records (INFO is not allowed)."
        )
        return
    policy = about.get("maxmemory_policy", "noeviction")
    if int(about.get("maxmemory", 0)) and policy != "noeviction":
        raise ConfigError(
            f"the Redis server at {shown} evicts records when its memory is full (maxmemory-policy {policy}).",
            hint="redis-cli CONFIG SET maxmemory-policy noeviction",
        )
    if not int(about.get("aof_enabled", 0)):
        warn_caller(
            f"the Redis server at {shown} keeps no append-only file: trials since its last snapshot are lost when it is"
            " killed. `redis-cli CONFIG SET appendonly yes` switches it on."
        )
