"""Removes a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.deployment.providers.aws.endpoint import MOVING, Endpoint
from unitrain.deployment.providers.aws.versions import Versions
from unitrain.deployment.steps import Step, Verb

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls


def removal(calls: Calls, name: str) -> list[Step]:
    """Return the steps: the endpoint first, then its versions.

    Raises:
        DeployError: If the endpoint is not unitrain's.
    """
    endpoint = Endpoint(calls, name)
    seen = endpoint.owned()
    steps = []
    if seen is not None and seen.state in MOVING:
        steps.append(_wait(endpoint, seen.state))
    if seen is not None and seen.state != "Deleting":
        steps.append(deletion(endpoint))
    return [*steps, *Versions(calls, endpoint).removal()]


def deletion(endpoint: Endpoint, detail: str = "") -> Step:
    """Return the step that deletes an endpoint."""
    name = endpoint.name
    return Step(Verb.DELETE, "endpoint", name, detail, do=lambda: endpoint.resources.delete(name), ready=endpoint.gone)


def _wait(endpoint: Endpoint, state: str) -> Step:
    """SageMaker deletes no endpoint that it still creates or updates."""
    ready = endpoint.gone if state == "Deleting" else endpoint.settled
    return Step(Verb.WAIT, "endpoint", endpoint.name, f"it is {state}", ready=ready)
