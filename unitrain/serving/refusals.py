"""What a client gets instead of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Header: TypeAlias = tuple[bytes, bytes]

BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, NOT_ALLOWED, TIMED_OUT = 400, 401, 404, 405, 408
NO_LENGTH, TOO_LARGE, UNSUPPORTED, MISDIRECTED, INVALID, HEADERS_TOO_LARGE = 411, 413, 415, 421, 422, 431
FAILED, UNAVAILABLE, TOO_SLOW = 500, 503, 504


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: What was expected and what came; the client reads it.
        headers: Further headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Sequence[Header] = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def invalid(message: str) -> Refusal:
    """Return the refusal of well-formed data that the model cannot take."""
    return Refusal(INVALID, message)


def malformed(message: str) -> Refusal:
    """Return the refusal of a request that cannot be read."""
    return Refusal(BAD_REQUEST, message)
