"""A small HTTP/1.1 client that keeps its connection; one request at a time."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443}
_END = b"\r\n"
_HEAD_END = _END + _END
_NO_BODY = frozenset({204, 304})
_FINAL = 200
"""Below it an answer announces another one."""


class Answer(NamedTuple):
    """What a server answered."""

    status: int
    body: bytes
    keeps: bool
    """Whether the connection stays open."""


@dataclass(frozen=True)
class Address:
    """Where a service is.

    Attributes:
        url: As it was given, without a slash at its end.
        host: To connect to.
        port: To connect to.
        tls: Whether to.
        path: What stands before each route.
    """

    url: str
    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Return the address in a URL.

        Raises:
            ConfigError: If it is none.
        """
        hint = "unitrain bench-serve http://127.0.0.1:8000"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} is not a URL: {error}.", hint=hint) from error
        if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.query:
            raise ConfigError(f"{url!r} must be http://HOST:PORT or https://HOST:PORT.", hint=hint)
        path = parts.path.rstrip("/")
        return cls(url.rstrip("/"), parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", path)

    def request(self, method: str, route: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """Return the bytes of a request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.path}{route} HTTP/1.1", f"Host: {host}:{self.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


class Connection(asyncio.Protocol):
    """One connection.

    Attributes:
        is_open: Whether a request may be sent on it.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def to(cls, address: Address) -> Connection:
        """Open one.

        Raises:
            OSError: If it cannot be opened.
        """
        tls = ssl.create_default_context() if address.tls else None
        _, made = await asyncio.get_running_loop().create_connection(cls, address.host, address.port, ssl=tls)
        return made

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and return the answer once all of it is there.

        Raises:
            OSError: If the connection ends before, or what comes is not HTTP.
        """
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        """End it."""
        self.is_open = False
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        """Take up what came, and hand out the answer when it is whole."""
        self._buffer += data
        try:
            found = parsed(self._buffer)
        except ValueError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))
            self.close()
            return
        if found is not None:
            self._give(found)

    def eof_received(self) -> None:
        """Hand out an answer that ends where the connection does."""
        self.is_open = False
        try:
            found = parsed(self._buffer, ended=True)
        except ValueError:
            found = None
        if found is not None:
            self._give(found)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits."""
        self.is_open = False
        self._fail(error if isinstance(error, OSError) else ConnectionResetError("closed by the server"))

    def _give(self, found: Answer) -> None:
        self._buffer.clear()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(found)
        if not found.keeps:
            self.close()

    def _fail(self, error: OSError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


def parsed(buffer: bytes | bytearray, *, ended: bool = False) -> Answer | None:
    """Return the answer in ``buffer``, or None if it is not whole yet.

    Args:
        buffer: What came so far.
        ended: Whether nothing more will come.

    Raises:
        ValueError: If it is not HTTP.
    """
    end = buffer.find(_HEAD_END)
    if end < 0:
        return None
    first, *lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    if not protocol.startswith("HTTP/1."):
        raise ValueError(repr(first[:80]))
    status = int(rest[:3])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    after = end + len(_HEAD_END)
    if status < _FINAL:
        return parsed(buffer[after:], ended=ended)
    keeps = headers.get("connection", "").lower() != "close" and protocol != "HTTP/1.0"
    if status in _NO_BODY:
        return Answer(status, b"", keeps)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunked(buffer, after)
    elif "content-length" in headers:
        size = int(headers["content-length"])
        body = bytes(buffer[after : after + size]) if len(buffer) >= after + size else None
    else:
        body, keeps = (bytes(buffer[after:]), False) if ended else (None, False)
    return None if body is None else Answer(status, body, keeps)


def _unchunked(buffer: bytes | bytearray, at: int) -> bytes | None:
    """Return a body that came in chunks, or None if it is not whole yet."""
    body = bytearray()
    while (end := buffer.find(_END, at)) >= 0:
        size = int(bytes(buffer[at:end]).partition(b";")[0], 16)
        at = end + len(_END)
        if size == 0:
            return bytes(body) if buffer.find(_END, at) >= 0 else None
        if len(buffer) < at + size + len(_END):
            return None
        body += buffer[at : at + size]
        at += size + len(_END)
    return None
