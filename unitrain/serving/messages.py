"""A request as the routes see it, and their response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from unitrain.serving.refusals import Header, Refusal
    from unitrain.serving.served import Served

JSON: Final = b"application/json"
NPY: Final = b"application/x-npy"
TEXT: Final = b"text/plain; charset=utf-8"
HTML: Final = b"text/html; charset=utf-8"
BYTES: Final = b"application/octet-stream"


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        id: The client's ``x-request-id``, or a new one.
        content_type: Without its parameters, in lower case; empty if there is none.
        content_length: What the client announced, or None.
        is_chunked: Whether the body comes in chunks, whose length nobody knows before.
        json_length: Of the JSON part of a binary request of the Open Inference Protocol, as it was sent.
        authorization: The header of that name.
        host: The header of that name, or None; several are joined by a comma.
        body: The whole of it.
    """

    id: bytes = b""
    content_type: bytes = b""
    content_length: int | None = None
    is_chunked: bool = False
    json_length: bytes | None = None
    authorization: bytes = b""
    host: bytes | None = None
    body: bytes = b""


class Response(NamedTuple):
    """What is sent back.

    Attributes:
        body: The whole of it.
        content_type: Of the body.
        status: The HTTP status.
        headers: Further headers.
    """

    body: bytes
    content_type: bytes = JSON
    status: int = 200
    headers: tuple[Header, ...] = ()


class Call(NamedTuple):
    """A request that has found its route.

    Attributes:
        request: The request.
        served: The model that the path names, or None.
    """

    request: Request
    served: Served | None

    @property
    def model(self) -> Served:
        """The model; a route of models has one."""
        assert self.served is not None  # noqa: S101 - for the type checker
        return self.served


def json_response(content: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Response:
    """Return plain values and NumPy arrays as JSON."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), JSON, status, headers)


def refused(refusal: Refusal) -> Response:
    """Return what a refused client gets."""
    return json_response({"error": refusal.message}, refusal.status, tuple(refusal.headers))
