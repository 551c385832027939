"""Whose turn it is to change an endpoint: its labels name the last call, and what that call wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrain.deployment.providers.gcp.api import ABSENT, CHANGED, EXISTS, ApiError
from unitrain.deployment.providers.gcp.operations import RUNNING, Operation
from unitrain.deployment.providers.gcp.resources import CALL, VERSION, Endpoint, running_on
from unitrain.deployment.providers.gcp.settings import OWN
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.deployment.providers.gcp.api import Api
    from unitrain.deployment.providers.gcp.resources import Names
    from unitrain.deployment.providers.gcp.settings import Settings
    from unitrain.deployment.providers.provider import Request


@dataclass(frozen=True)
class Claim:
    """One call of ``deploy``, and its right to change the endpoint.

    Attributes:
        api: The API.
        settings: What to deploy.
        names: The paths.
        request: What to deploy, and the call.
    """

    api: Api
    settings: Settings
    names: Names
    request: Request

    @property
    def labels(self) -> dict[str, str]:
        """The labels of what this call makes."""
        own = {OWN: self.request.name, VERSION: self.request.identity, CALL: self.request.call}
        return {**(self.settings.labels or {}), **own}

    def now(self) -> Endpoint | None:
        """Return the endpoint as it is now."""
        told = self.api.find(self.names.endpoint)
        return None if told is None else Endpoint(told)

    def held(self) -> Endpoint:
        """Return the endpoint as it is now.

        Raises:
            DeployError: If another call has taken it over.
        """
        now = self.now()
        if now is None or now.call != self.request.call:
            raise self.lost()
        return now

    def is_lost_to_equal(self) -> bool:
        """Return whether another call deploys the same, and so needs what this one made."""
        now = self.now()
        return now is not None and now.call != self.request.call and now.version == self.request.identity

    def lost(self) -> DeployError:
        """Return the error for a call that was not the only one."""
        return DeployError(
            f"another deploy or undeploy of {self.request.name!r} is running.", hint="deploy again when it has ended."
        )

    def patch(self, now: Endpoint, change: Mapping[str, Any], mask: str) -> None:
        """Change the endpoint, if nobody else has done so since it was read.

        Raises:
            DeployError: If another call was first.
        """
        etag = {"etag": now.told["etag"]} if "etag" in now.told else {}
        try:
            self.api.patch(self.names.endpoint, {**change, **etag}, mask)
        except ApiError as error:
            if error.status not in CHANGED:
                raise
            after = self.now()  # a call that is tried again may already have had its effect
            if after is None or any(after.told.get(key, {}) != value for key, value in change.items()):
                raise self.lost() from error


class Creation:
    """A call that makes something under an ID of ours.

    Args:
        api: The API.
        path: Of the resource whose operations tell how it goes.
        call: Begins it, and returns the operation.
        check: Refuses what is there in the end, if another call was first.
    """

    def __init__(
        self, api: Api, path: str, call: Callable[[], Mapping[str, Any] | None], check: Callable[[], None]
    ) -> None:
        self._api, self._path, self._call, self._check = api, path, call, check
        self._operation: Operation | None = None

    def begin(self) -> None:
        """Make the call; that it exists, or is being made, may be the answer to one that is tried again."""
        try:
            told = self._call()
        except ApiError as error:
            is_running = error.status in CHANGED and running_on(self._api, self._path) is not None
            if error.status != EXISTS and not is_running:
                raise
        else:
            self._operation = None if told is None else Operation(self._api, told)

    def poll(self) -> str | None:
        """Return the state, or None once it is there.

        Raises:
            DeployError: If it failed.
        """
        if self._operation is not None:
            state = self._operation.poll()
            if state is not None:
                return state
        elif running_on(self._api, self._path) is not None:
            return RUNNING
        self._check()
        return None

    def unfinished(self) -> Operation | None:
        """Return what may still be making it, which a take-back has to wait for."""
        known, self._operation = self._operation, None
        if known is not None:
            try:
                if known.tolerant().poll() is not None:
                    return known.tolerant()
            except ApiError as error:
                if error.status != ABSENT:
                    raise
        return running_on(self._api, self._path)
