"""What is there, and what of it is unitrain's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.gcp.api import ABSENT, ApiError
from unitrain.deployment.providers.gcp.operations import Operation
from unitrain.deployment.providers.gcp.settings import OWN
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.providers.gcp.api import Api

VERSION: Final = f"{OWN}-version"
"""The label of a model with its identity, and of an endpoint with the one that it is to serve."""
CALL: Final = f"{OWN}-call"
"""The label of a model with the call that made it, and of an endpoint with the last one that changed it."""
ALL: Final = 100
"""Percent of the traffic."""

_HOW: Final = "choose another name=; unitrain changes nothing that it did not make."


@dataclass(frozen=True)
class Deployed:
    """A model on an endpoint.

    Attributes:
        id: Its ID there.
        model: The ID of the model.
        label: Its display name: the version and the call that deployed it.
        traffic: Its percentage of the traffic.
    """

    id: str
    model: str
    label: str
    traffic: int


@dataclass(frozen=True)
class Endpoint:
    """An endpoint.

    Attributes:
        told: What the API tells of it.
    """

    told: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.told.get("labels", {}))

    @property
    def version(self) -> str:
        """The identity that it is to serve."""
        return self.labels.get(VERSION, "")

    @property
    def call(self) -> str:
        """The last call that changed it."""
        return self.labels.get(CALL, "")

    @property
    def split(self) -> dict[str, int]:
        """The percentage of the traffic by the ID of the deployed model."""
        return dict(self.told.get("trafficSplit", {}))

    @property
    def deployed(self) -> tuple[Deployed, ...]:
        """The models on it, the least used first."""
        found = [
            Deployed(one["id"], id_of(one["model"]), one.get("displayName", ""), self.split.get(one["id"], 0))
            for one in self.told.get("deployedModels", ())
        ]
        return tuple(sorted(found, key=lambda one: one.traffic))

    @property
    def is_dedicated(self) -> bool:
        """Whether it has an address of its own."""
        return bool(self.told.get("dedicatedEndpointEnabled"))

    @property
    def host(self) -> str:
        """The host of a dedicated endpoint; empty for a shared one."""
        return str(self.told.get("dedicatedEndpointDns", "")) if self.is_dedicated else ""

    def of(self, model: str) -> Deployed | None:
        """Return where the model is deployed on it; the one with the most traffic if that is so more than once."""
        return next((one for one in reversed(self.deployed) if one.model == model), None)


@dataclass(frozen=True)
class Found:
    """All that is there of a deployment.

    Attributes:
        endpoint: The endpoint, or None.
        models: The IDs of the models that unitrain made for it.
        operations: What was begun on the endpoint, as the API tells of it.
    """

    endpoint: Endpoint | None
    models: tuple[str, ...]
    operations: tuple[Mapping[str, Any], ...]

    @property
    def is_busy(self) -> bool:
        """Whether something is running on the endpoint."""
        return any(not one.get("done") for one in self.operations)


class Names:
    """The paths of a deployment's resources.

    Args:
        parent: The project and the location.
        name: Of the deployment.
    """

    def __init__(self, parent: str, name: str) -> None:
        self.parent, self.name = parent, name
        self.endpoints, self.models = f"{parent}/endpoints", f"{parent}/models"
        self.endpoint = f"{self.endpoints}/{name}"

    def model(self, identity: str) -> str:
        """Return the path of a model by its ID."""
        return f"{self.models}/{identity}"

    def is_own_model(self, identity: str) -> bool:
        """Return whether an ID is one that unitrain gives."""
        return re.fullmatch(rf"{OWN}-{re.escape(self.name)}-[0-9a-f]{{10}}", identity) is not None


def id_of(path: str) -> str:
    """Return the ID of a resource without its version."""
    return path.rsplit("/", 1)[-1].partition("@")[0]


def read(api: Api, names: Names) -> Found:
    """Return what is there.

    Raises:
        DeployError: If what has the name is not unitrain's.
    """
    told = api.find(names.endpoint)
    same = api.pages(names.endpoints, "endpoints", filter=f'displayName="{names.name}"')
    for one in [*([] if told is None else [told]), *same]:
        if one.get("labels", {}).get(OWN) != names.name:
            raise DeployError(f"the endpoint {id_of(one['name'])} ({names.name!r}) is not of unitrain.", hint=_HOW)
    endpoint = None if told is None else Endpoint(told)
    for deployed in () if endpoint is None else endpoint.deployed:
        if not names.is_own_model(deployed.model):
            raise DeployError(
                f"unitrain did not deploy the model {deployed.model} on the endpoint {names.name}.",
                hint="undeploy it there by hand, or choose another name=.",
            )
    listed = api.pages(names.models, "models", filter=f'labels.{OWN}="{names.name}"')
    models = tuple(one for one in (id_of(told["name"]) for told in listed) if names.is_own_model(one))
    operations = () if told is None else tuple(operations_on(api, names.endpoint))
    return Found(endpoint, models, operations)


def operations_on(api: Api, path: str) -> list[dict[str, Any]]:
    """Return the operations of a resource, also of one that is being made."""
    try:
        return list(api.pages(f"{path}/operations", "operations"))
    except ApiError as error:
        if error.status != ABSENT:
            raise
        return []


def running_on(api: Api, path: str) -> Operation | None:
    """Return an operation that still works on a resource, or None; whether it fails is not ours to tell."""
    running = (one for one in operations_on(api, path) if not one.get("done"))
    return next((Operation(api, one, may_fail=True) for one in running), None)
