"""One call to the API of Vertex AI: who asks, what is tried again, and what its errors mean."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError, install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitrain.deployment.providers.gcp.settings import Settings

ABSENT: Final = "NOT_FOUND"
EXISTS: Final = "ALREADY_EXISTS"
CHANGED: Final = ("ABORTED", "FAILED_PRECONDITION")
"""Another call changed it, or works on it, or it is still used."""

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_AGAIN: Final = (429, 502, 503, 504)
"""Each call of this provider can be made twice: what it creates has an ID that it gave."""
_PATIENCE: Final = 60.0
"""Seconds for an answer."""
_ATTEMPTS: Final = 8
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_OK: Final = 200
_PAGE: Final = 100
_SHOWN: Final = 2000

_HINTS: Final = {
    "UNAUTHENTICATED": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
    "PERMISSION_DENIED": "the account needs the role roles/aiplatform.user in this project, and the project the API:"
    " gcloud services enable aiplatform.googleapis.com",
    "RESOURCE_EXHAUSTED": "ask for more quota, or choose another machine= or location=.",
}


class ApiError(DeployError):
    """The API refused a call.

    Attributes:
        status: Its word for the reason, such as ``"NOT_FOUND"``; the number if it gave none.
    """

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message, hint=_HINTS.get(status))
        self.status = status


class Api:
    """Calls Vertex AI; credentials are looked for at the first call.

    Args:
        settings: Where it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._base = settings.base
        self._made: Any = None

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Return what has the path."""
        return self._call("GET", path, query=query)

    def find(self, path: str) -> dict[str, Any] | None:
        """Return what has the path, or None if it is absent."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status != ABSENT:
                raise
            return None

    def pages(self, path: str, of: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """Yield what all pages of a list hold."""
        token = ""
        while True:
            page = self.get(path, pageSize=_PAGE, **query, **({"pageToken": token} if token else {}))
            yield from page.get(of, ())
            token = page.get("nextPageToken", "")
            if not token:
                return

    def post(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """Send a body, and return the answer."""
        return self._call("POST", path, query=query, body=body)

    def patch(self, path: str, body: Mapping[str, Any], mask: str) -> dict[str, Any]:
        """Change the fields of ``mask``."""
        return self._call("PATCH", path, query={"updateMask": mask}, body=body)

    def delete(self, path: str) -> dict[str, Any]:
        """Return the operation that deletes what has the path."""
        return self._call("DELETE", path)

    def send(self, url: str, body: bytes) -> dict[str, Any]:
        """Send JSON to an address, and return the answer."""
        return self._request("POST", url, data=body, headers={"Content-Type": "application/json"})

    def _call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> dict[str, Any]:
        return self._request(method, f"{self._base}/v1/{path}", params=query, json=body)

    def _request(self, method: str, url: str, **content: Any) -> dict[str, Any]:
        pause = _FIRST_PAUSE
        for left in reversed(range(_ATTEMPTS)):
            answer = self._once(method, url, is_last=left == 0, **content)
            if answer is not None and (answer.status_code not in _AGAIN or left == 0):
                return self._read(answer)
            told = "" if answer is None else answer.headers.get("Retry-After", "")
            time.sleep(min(float(told), _LONGEST_PAUSE) if told.isdecimal() else pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        raise AssertionError  # the last attempt returns or raises

    def _once(self, method: str, url: str, *, is_last: bool, **content: Any) -> Any:
        """Return the answer, or None if there was no connection; the last attempt raises instead."""
        session = self._session()
        import requests  # noqa: PLC0415 - an extra
        from google.auth import exceptions  # noqa: PLC0415 - as above

        try:
            return session.request(method, url, timeout=_PATIENCE, allow_redirects=False, **content)
        except exceptions.GoogleAuthError as error:
            raise DeployError(
                f"there is no token for Google Cloud: {_first(error)}.", hint=_HINTS["UNAUTHENTICATED"]
            ) from None
        except requests.RequestException as error:
            if not is_last:
                return None
            host = url.split("/")[2]
            raise DeployError(
                f"{host} cannot be reached: {type(error).__name__}.",
                hint="see whether location= is a region of Vertex AI, and whether the network lets you there.",
            ) from None

    def _session(self) -> Any:
        """Return the session, which renews its token."""
        if self._made is None:
            try:
                import google.auth  # noqa: PLC0415 - an extra
                from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415 - as above
            except ImportError as error:
                raise DeployError(
                    f'provider="gcp" needs google-auth and requests: {error}.', hint=install_hint("gcp")
                ) from error
            try:
                credentials, _ = google.auth.default(scopes=[_SCOPE])
            except google.auth.exceptions.GoogleAuthError as error:
                raise DeployError(
                    f"there are no credentials for Google Cloud: {_first(error)}.", hint=_HINTS["UNAUTHENTICATED"]
                ) from None
            self._made = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        return self._made

    def _read(self, answer: Any) -> dict[str, Any]:
        """Return the content of an answer, which may repeat what it was sent: never the token.

        Raises:
            ApiError: If it is an error, or not JSON.
        """
        token = str(self._session().credentials.token or "").encode()
        try:
            content = json.loads(answer.content.replace(token, b"***") if token else answer.content)
        except ValueError:
            content = None
        if answer.status_code == _OK and isinstance(content, dict):
            return content
        error = content.get("error") if isinstance(content, dict) else None
        if not isinstance(error, dict):
            raise ApiError(f"the API answered {answer.status_code}, and no JSON.", str(answer.status_code))
        status = str(error.get("status", answer.status_code))
        raise ApiError(f"{str(error.get('message', ''))[:_SHOWN].strip()} ({status})", status)


def _first(error: Exception) -> str:
    """Return what an error of google-auth says, without the answer of the server."""
    return str(error.args[0] if error.args else type(error).__name__)[:300].strip().rstrip(".")
