"""What takes time at Vertex AI."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.gcp.api import ABSENT, CHANGED, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.deployment.providers.gcp.api import Api

RUNNING: Final = "running"
IN_USE: Final = "in use"
_PATIENCE: Final = 900.0
"""Seconds until what is in use must be free: a model can be deleted only some minutes after it was undeployed."""

_WORDS: Final = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


class Operation:
    """A long operation.

    Args:
        api: The API.
        told: What the API has said of it.
        may_fail: Whether it only matters that it ends.
    """

    def __init__(self, api: Api, told: Mapping[str, Any], *, may_fail: bool = False) -> None:
        self._api, self._told, self._may_fail = api, told, may_fail

    def tolerant(self) -> Operation:
        """Return it as one of which it only matters that it ends."""
        return Operation(self._api, self._told, may_fail=True)

    def poll(self) -> str | None:
        """Return its state, or None once it is done.

        Raises:
            ApiError: If it failed.
        """
        if not self._told.get("done"):
            self._told = self._api.get(self._told["name"])
        error = failure(self._told)
        if error is not None and not self._may_fail:
            raise error
        if self._told.get("done"):
            return None
        stage = str(self._told.get("metadata", {}).get("deploymentStage", ""))
        return stage.lower().replace("_", " ") or RUNNING


def failure(told: Mapping[str, Any]) -> ApiError | None:
    """Return why an operation failed, or None if it has not."""
    error = told.get("error")
    if not error:
        return None
    status = _WORDS.get(error.get("code", 0), str(error.get("code")))
    return ApiError(f"{str(error.get('message', ''))[:2000]} ({status})", status)


class Repeated:
    """A call that is made until nothing is left of what it removes.

    Args:
        call: Returns the operation that it began, or None if nothing is left.
    """

    def __init__(self, call: Callable[[], Operation | None]) -> None:
        self._call = call
        self._begun: Operation | None = None
        self._deadline = 0.0

    def begin(self) -> None:
        """Make the first attempt."""
        self._deadline = time.monotonic() + _PATIENCE
        self.poll()

    def poll(self) -> str | None:
        """Return the state, or None once nothing is left.

        Raises:
            ApiError: If it is refused for another reason than that it is in use, or for that too long.
        """
        try:
            state = None if self._begun is None else self._begun.poll()
            if state is None:
                self._begun = self._call()
                return None if self._begun is None else RUNNING
        except ApiError as error:
            if error.status not in (*CHANGED, ABSENT) or time.monotonic() > self._deadline:
                raise
            self._begun = None
            return IN_USE
        return state
