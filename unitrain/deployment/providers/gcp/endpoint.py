"""Makes the endpoint, or takes its turn on the one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.deployment.providers.gcp.claim import Creation
from unitrain.deployment.providers.gcp.operations import Operation, Repeated
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.gcp.claim import Claim
    from unitrain.deployment.providers.gcp.resources import Endpoint

KIND = "endpoint"


def created(claim: Claim) -> Step:
    """Return the step that creates the endpoint."""
    name, dedicated = claim.request.name, claim.settings.dedicated
    body: dict[str, Any] = {"displayName": name, "labels": claim.labels}
    if dedicated:
        body["dedicatedEndpointEnabled"] = True

    adopted: list[dict[str, str]] = []

    def check() -> None:
        adopted.extend(_adopted(claim))
        claim.held()

    making = Creation(
        claim.api,
        claim.names.endpoint,
        lambda: claim.api.post(claim.names.endpoints, body, endpointId=name),
        check,
    )

    def remove() -> Operation | None:
        now = claim.now()
        if now is None:
            return making.unfinished()
        if now.call != claim.request.call:
            return None
        if adopted:
            claim.patch(now, {"labels": adopted[-1]}, "labels")
            return None
        return Operation(claim.api, claim.api.delete(claim.names.endpoint))

    removal = Repeated(remove)
    undo = Step(Verb.DELETE, KIND, name, do=removal.begin, ready=removal.poll)
    detail = "with its own address" if dedicated else ""
    return Step(Verb.CREATE, KIND, name, detail, do=making.begin, ready=making.poll, undo=(undo,))


def _adopted(claim: Claim) -> list[dict[str, str]]:
    """Take over an endpoint that an equal call has made, and return its labels: that call may have been stopped."""
    now = claim.now()
    if now is None or now.call == claim.request.call or now.version != claim.request.identity:
        return []
    claim.patch(now, {"labels": claim.labels}, "labels")
    return [now.labels]


def claimed(claim: Claim, before: Endpoint) -> Step:
    """Return the step that names this call in the labels of the endpoint.

    Raises:
        DeployError: If the endpoint would have to be another one.
    """
    if before.is_dedicated is not claim.settings.dedicated:
        raise DeployError(
            f"dedicated= cannot be changed: the endpoint {claim.request.name} is"
            f" {'dedicated' if before.is_dedicated else 'shared'}.",
            hint="undeploy it first, or choose another name=.",
        )

    def take() -> None:
        now = claim.now()
        if now is None or (now.version, now.call) != (before.version, before.call):
            raise claim.lost()
        claim.patch(now, {"labels": claim.labels}, "labels")

    def give_back() -> None:
        now = claim.now()
        if now is not None and now.call == claim.request.call:
            claim.patch(now, {"labels": before.labels}, "labels")

    undo = Step(Verb.UPDATE, KIND, claim.request.name, do=give_back)
    return Step(Verb.UPDATE, KIND, claim.request.name, "labels", do=take, undo=(undo,))
