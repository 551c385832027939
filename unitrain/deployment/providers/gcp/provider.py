"""``provider="gcp"``: endpoints of Vertex AI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from unitrain.deployment.bundle.names import require_name
from unitrain.deployment.providers.gcp.api import Api
from unitrain.deployment.providers.gcp.claim import Claim
from unitrain.deployment.providers.gcp.deploying import deploying
from unitrain.deployment.providers.gcp.operations import failure
from unitrain.deployment.providers.gcp.removing import removing
from unitrain.deployment.providers.gcp.resources import ALL, Names, read
from unitrain.deployment.providers.gcp.settings import Settings
from unitrain.deployment.providers.provider import Status
from unitrain.errors import DataError, DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.deployment.providers.gcp.resources import Found
    from unitrain.deployment.providers.provider import Request
    from unitrain.deployment.steps import Step

_LARGEST: Final = {False: 1_500_000, True: 10_000_000}
"""Bytes of a request, by whether the endpoint is dedicated."""


class GCP:
    """Runs bundles on Vertex AI.

    Args:
        settings: Its settings.
    """

    name: ClassVar[str] = "gcp"
    settings_type: ClassVar[type] = Settings
    targets: ClassVar[tuple[str, ...]] = ("vertex",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._api = Api(settings)
        self._addresses: dict[str, tuple[str, bool]] = {}

    def check_name(self, name: str) -> None:
        """Refuse what cannot be the ID of an endpoint, and of a model with what is added to it.

        Raises:
            DeployError: If it is invalid.
        """
        require_name(name)

    def plan(self, request: Request) -> Sequence[Step]:
        """Return the steps: the endpoint, the model, the model on the endpoint, the traffic, and what is left over."""
        names = self._names(request.name)
        return list(deploying(Claim(self._api, self.settings, names, request), read(self._api, names)))

    def removal(self, name: str) -> Sequence[Step]:
        """Return the steps: the models leave the endpoint, then it is deleted, then they are."""
        names = self._names(name)
        return list(removing(self._api, names, read(self._api, names)))

    def status(self, name: str) -> Status:
        """Return the state: Vertex AI has none for an endpoint, so it is that of its traffic and its operations."""
        found = read(self._api, self._names(name))
        if found.endpoint is None:
            left = {"models": ", ".join(found.models)} if found.models else {}
            return Status(name, "Incomplete" if left else "absent", is_ready=False, details=left)
        serving = [one for one in found.endpoint.deployed if one.traffic]
        is_ready = sum(one.traffic for one in serving) == ALL
        details = {"url": self._address(found.endpoint.host, name), "version": found.endpoint.version}
        if serving:
            details["model"] = ", ".join(f"{one.model} ({one.traffic} %)" for one in serving)
        state = "Updating" if found.is_busy else "Ready" if is_ready else "Incomplete"
        return Status(name, state, is_ready, "" if is_ready else _reason(found), details)

    def url(self, name: str) -> str:
        """Return the address of the endpoint.

        Raises:
            DeployError: If there is none.
        """
        return self._asked(name)[0]

    def ask(self, name: str, content: Mapping[str, Any]) -> Any:
        """Send ``content``, and return the answer.

        Raises:
            DataError: If it is more than the endpoint takes, or cannot be told in JSON.
            DeployError: If it is not answered.
        """
        try:
            body = json.dumps(content, allow_nan=False).encode()
        except ValueError as error:
            raise DataError("JSON has no NaN and no infinity.", hint="replace them.") from error
        url, is_dedicated = self._asked(name)
        if len(body) > _LARGEST[is_dedicated]:
            raise DataError(
                f"the request has {len(body):,} bytes; this endpoint takes {_LARGEST[is_dedicated]:,}.",
                hint="send fewer rows." if is_dedicated else "send fewer rows, or deploy with dedicated=True.",
            )
        try:
            return self._api.send(url, body)
        except DeployError:
            self._addresses.pop(name, None)  # it may have been deployed anew
            raise

    def _names(self, name: str) -> Names:
        return Names(self.settings.parent, name)

    def _asked(self, name: str) -> tuple[str, bool]:
        """Return the address that is asked, and whether it is that of a dedicated endpoint."""
        if name not in self._addresses:
            endpoint = read(self._api, self._names(name)).endpoint
            if endpoint is None:
                raise DeployError(f"there is no deployment {name!r}.", hint="unitrain.deploy(...) makes one.")
            self._addresses[name] = self._address(endpoint.host, name), endpoint.is_dedicated
        return self._addresses[name]

    def _address(self, host: str, name: str) -> str:
        base = f"{urlsplit(self.settings.base).scheme}://{host}" if host else self.settings.base
        return f"{base}/v1/{self._names(name).endpoint}:predict"


def _reason(found: Found) -> str:
    """Return why the last operation failed."""
    failed = [error for error in map(failure, found.operations) if error is not None]
    return str(failed[-1].args[0]).partition("\n")[0] if failed else ""
