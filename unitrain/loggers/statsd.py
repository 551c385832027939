"""Reports a run to a StatsD server, in datagrams."""

from __future__ import annotations

import errno
import math
import re
import socket
from typing import TYPE_CHECKING, Any, Literal

from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.loggers.addresses import host_and_port
from unitrain.loggers.outlet import tell
from unitrain.loggers.reporter import Report, Reporter, stage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LARGEST = 1400
"""Bytes of a datagram that passes through any network unbroken."""

_REFUSED = re.compile(r"[^a-zA-Z0-9_.-]")
_PREFIX = re.compile(r"[a-zA-Z0-9_.-]*")
_TAG = re.compile(r"[^a-zA-Z0-9_.-]")
_TAGS = (None, "dogstatsd")
_TRIES = 2


@named_arguments(ConfigError, callback_arguments_for)
class StatsDLogger(Reporter):
    """Sends the newest values of a run to StatsD every second, as gauges.

    ``train/loss`` becomes ``unitrain.train.loss``. A negative value is preceded by ``0`` in the same datagram, because
    StatsD takes ``-1.5|g`` for a decrement. NaN and infinities cannot be sent: they are left out and counted in
    ``left_out`` and in the gauge ``unitrain.left_out``. Nobody confirms a datagram; those that the machine
    knows to be refused are counted in ``refused``, and at the end a warning tells of them.

    Attributes:
        left_out: Number of values that were not finite.
        refused: Number of datagrams that nobody listened for.
        run: Name of the run, a tag if there are tags.

    Args:
        address: ``"host:port"``.
        prefix: The beginning of all names.
        tags: ``"dogstatsd"`` adds the tags ``run`` and ``stage`` in the form of Datadog; None sends no tags.
        run: Name of the run, for the tags.

    Raises:
        ConfigError: If an argument is invalid.

    Example:
        >>> StatsDLogger("127.0.0.1:8125", prefix="digits")
        StatsDLogger('127.0.0.1:8125', prefix='digits')
    """

    reserved = (*Reporter.reserved, "left_out")

    def __init__(
        self,
        address: str,
        *,
        prefix: str = "unitrain",
        tags: Literal["dogstatsd"] | None = None,
        run: str | None = None,
    ) -> None:
        self._place = host_and_port("address", address, "127.0.0.1:8125")
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise ConfigError(
                f"prefix must consist of letters, digits, '.', '_' and '-'; got {prefix!r}.", hint='prefix="unitrain"'
            )
        if tags not in _TAGS:
            raise ConfigError(f'tags must be "dogstatsd" or None; got {tags!r}.', hint='tags="dogstatsd"')
        if run is not None and tags is None:
            raise ConfigError("run= has no effect without tags.", hint='tags="dogstatsd", or prefix="unitrain.my_run"')
        super().__init__(run, "unitrain")
        self._address, self._prefix, self._tags = address, prefix, tags
        self.left_out = self.refused = self._refusals_told = 0
        self._connection: socket.socket | None = None

    @property
    def destination(self) -> str:
        """The server."""
        return self._address

    def accepted(self, name: str) -> str:
        """Return a name with dots instead of slashes."""
        return _REFUSED.sub("_", name.replace("/", ".")) or "_"

    def begin(self, rows: int) -> None:
        """Begin a run."""
        self.left_out = self.refused = self._refusals_told = 0
        super().begin(rows)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Store the row, and count what cannot be sent."""
        super().log_metrics(metrics, step)
        self.left_out += sum(not math.isfinite(value) for value in metrics.values())

    def deliver(self, report: Report) -> None:
        """Send one datagram, or as many as the values need."""
        connection = self._connection = self._connection or connected(*self._place)
        for datagram in datagrams(self._lines(report)):
            self._send(connection, datagram)

    def finalize(self, status: str) -> None:
        """End the run, and tell of datagrams that were refused."""
        super().finalize(status)
        connection, self._connection = self._connection, None
        if connection is not None:
            self.refused += connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            connection.close()
        more, self._refusals_told = self.refused - self._refusals_told, self.refused
        if more:
            tell(f"{more} datagrams of StatsDLogger were refused: no server listens on {self._address}.")

    def __getstate__(self) -> dict[str, Any]:
        """Drop the socket."""
        return {**super().__getstate__(), "_connection": None}

    def _send(self, connection: socket.socket, datagram: bytes) -> None:
        """Send a datagram; the refusal of one before, which the machine reports here, does not prevent it."""
        for _ in range(_TRIES):
            try:
                connection.send(datagram)
            except ConnectionRefusedError:
                self.refused += 1
            else:
                return

    def _lines(self, report: Report) -> Iterator[str]:
        finite = {name: value for name, value in report.values.items() if math.isfinite(value)}
        own = report.own
        if self.left_out:
            own["left_out"] = self.left_out
        for name, value in own.items():
            yield self._line(name, value, report.run, "train")
        for name, value in finite.items():
            yield self._line(report.stored_as(name), float(value), report.run, stage_of(name))

    def _line(self, name: str, value: float, run: str, stage: str) -> str:
        full = f"{self._prefix}.{name}" if self._prefix else name
        tags = f"|#{_tags(run=run, stage=stage)}" if self._tags else ""
        line = f"{full}:{value!r}|g{tags}"
        return f"{full}:0|g{tags}\n{line}" if math.copysign(1.0, value) < 0 else line


def connected(host: str, port: int) -> socket.socket:
    """Return a socket for datagrams to one place, so that the machine reports refusals."""
    kind, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    made = socket.socket(kind, socket.SOCK_DGRAM)
    try:
        made.connect(place)
    except OSError:
        made.close()
        raise
    return made


def _tags(**tags: Any) -> str:
    return ",".join(f"{name}:{_TAG.sub('_', value)}" for name, value in tags.items() if value)


def datagrams(lines: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines joined to datagrams; what belongs together stays together."""
    waiting = b""
    for line in lines:
        part = line.encode()
        if waiting and len(waiting) + 1 + len(part) > _LARGEST:
            yield waiting
            waiting = b""
        waiting = waiting + b"\n" + part if waiting else part
    if waiting:
        yield waiting
