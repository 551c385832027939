"""Sends HTTP requests to monitoring servers."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener


def sent(request: Request, timeout: float) -> bytes:
    """Send a request and return the body of the answer; the connection is closed in any case.

    Raises:
        OSError: If there is no answer in time, or one that is an error.
    """
    try:
        with _opener().open(request, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body
    except HTTPError as error:
        with error:
            raise OSError(f"HTTP status {error.code}") from None


class _NoRedirect(HTTPRedirectHandler):
    """Makes a redirect an error: it would send the credentials to another place, and nothing in a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


@cache
def _opener() -> OpenerDirector:
    return build_opener(_NoRedirect)
