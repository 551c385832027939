"""A connection with limits that uvicorn lacks: how long a request may take to arrive, and how large it may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from unitrain.serving.messages import json_response
from unitrain.serving.refusals import BAD_REQUEST, HEADERS_TOO_LARGE, TIMED_OUT, TOO_LARGE, UNAVAILABLE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

MOST_HEADERS: Final = 64 * 2**10
"""Bytes of a request beside its body."""

_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_PUNCTUATION: Final = 4
"""Bytes of a header line beside name and value."""
_LINGER: Final = 1.0
"""Seconds that an idle connection outlives the server's stop; a last request is answered with ``Connection: close``."""
_END: Final = b"\r\n\r\n"
_LONGEST_CHUNK_HEAD: Final = 8
"""A chunk of one byte takes seven more; beyond that, what comes is no body."""


@dataclass(frozen=True)
class Limits:
    """What a client may do.

    Attributes:
        timeout: Seconds for a request to arrive, and for an answer to be taken.
        max_body: The largest body.
        max_connections: How many connections are served.
        count: Is called with the status of a request that is refused here.
    """

    timeout: float
    max_body: int
    max_connections: int
    count: Callable[[int], None]


class Connection(HttpToolsProtocol):
    """One client; ``close_if_slow`` is called now and then.

    Args:
        limits: What it may do.
        **given: As uvicorn has it.
    """

    def __init__(self, *, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._since: float | None = None
        self._full_since: float | None = None
        self._received = self._beside_body = 0
        self._in_body = False
        self._refusal: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read further bytes."""
        if self._since is None:
            self._since = self.loop.time()
        self._received += len(data)
        if not self._in_body and b"pgrade" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_body and self._received > _LONGEST_CHUNK_HEAD * self._limits.max_body + MOST_HEADERS:
            self._refuse(TOO_LARGE, f"the body is larger than {self._limits.max_body} bytes (--max-body).")
        elif self._received > MOST_HEADERS and not self._in_body:
            self._refuse(*_HEADERS)

    def on_message_begin(self) -> None:
        """Start the deadline of a request, which may stand behind another one in the same bytes."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._received = self._beside_body = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; drop one that comes after the body."""
        self._beside_body += len(name) + len(value) + _PUNCTUATION
        if self._beside_body > MOST_HEADERS:
            self._refusal = _HEADERS
            raise ValueError  # ends the parser, which then calls send_400_response
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the answer, of the application or that there are too many connections."""
        if len(self.url) > MOST_HEADERS:
            self._refusal = _HEADERS
            raise ValueError
        self._in_body = True
        if len(self.connections) > self._limits.max_connections:
            self._refusal = (UNAVAILABLE, f"more than {self._limits.max_connections} connections (--max-connections).")
            raise ValueError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the deadline of this request."""
        super().on_message_complete()
        self._since, self._received, self._in_body = None, 0, False

    def shutdown(self) -> None:
        """Close; an idle or new connection only a moment later, since its client may have sent a request by now."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LINGER, super().shutdown)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Note since when the client does not read."""
        super().pause_writing()
        self._full_since = self.loop.time()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._full_since = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Refuse what the parser could not read, or what a callback refused."""
        self._refuse(*(self._refusal or (BAD_REQUEST, "this is not HTTP/1.1.")))

    def close_if_slow(self) -> None:
        """Close the connection if its request has not arrived in time, or its answer was not taken in time."""
        latest = self.loop.time() - self._limits.timeout
        if self._full_since is not None and self._full_since < latest:
            self.transport.abort()
        elif self._since is not None and self._since < latest and not self.transport.is_closing():
            self._refuse(TIMED_OUT, f"the request did not arrive within {self._limits.timeout:g} s (--timeout).")

    def _refuse(self, status: int, message: str) -> None:
        """Answer, if nothing was answered yet, and close."""
        self._limits.count(status)
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json_response({"error": message}).body
            retry = b"retry-after: 1\r\n" if status == UNAVAILABLE else b""
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + retry + head + b"\r\n" + body)
        self.transport.close()


_HEADERS: Final = (HEADERS_TOO_LARGE, f"the headers are larger than {MOST_HEADERS} bytes.")


def _without_upgrade(data: bytes) -> bytes:
    """Drop the wish for another protocol, which a server may pass over; the parser would drop the body instead."""
    head, end, rest = data.partition(_END)
    return _UPGRADE.sub(b"", head) + end + rest
