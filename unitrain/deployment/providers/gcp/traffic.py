"""Puts the model on the endpoint, and the traffic on the model."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.gcp.api import ABSENT, ApiError
from unitrain.deployment.providers.gcp.claim import Creation
from unitrain.deployment.providers.gcp.operations import Operation, Repeated
from unitrain.deployment.providers.gcp.resources import ALL, Endpoint, running_on
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.deployment.providers.gcp.api import Api
    from unitrain.deployment.providers.gcp.claim import Claim
    from unitrain.deployment.providers.gcp.resources import Deployed, Names

KIND: Final = "deployed model"
_SMALLEST: Final = 10**9
"""The ID of a deployed model has at most ten digits."""


class _Deploying:
    """Puts the model of a call on the endpoint.

    Args:
        claim: Of the call.
        is_first: Whether it gets all traffic as soon as it is there; if not, it gets none yet.
    """

    def __init__(self, claim: Claim, *, is_first: bool) -> None:
        self._claim, self._is_first = claim, is_first
        self._label = f"{claim.request.version}-{claim.request.call}"
        self._is_asked = False
        self.making = Creation(claim.api, claim.names.endpoint, self._begin, self._check)

    def _begin(self) -> Mapping[str, Any] | None:
        claim, now = self._claim, self._claim.held()
        if now.of(claim.request.version) is not None:
            return None  # what was running when the plan was made has done it
        self._is_asked = True
        split = {"trafficSplit": {"0": ALL}} if self._is_first else {}
        content = {"deployedModel": _body(claim, now, self._label), **split}
        try:
            return claim.api.post(f"{claim.names.endpoint}:deployModel", content)
        except ApiError as error:
            if error.status == ABSENT:
                claim.held()  # the clean-up of another call may have just removed it
            raise

    def _check(self) -> None:
        if self._claim.held().of(self._claim.request.version) is None:
            raise _gone()

    def remove(self) -> Operation | None:
        """Undeploy what this call has deployed, unless an equal call needs it."""
        if not self._is_asked or self._claim.is_lost_to_equal():
            return None
        unfinished = self.making.unfinished()
        if unfinished is not None:
            return unfinished
        now = self._claim.now()
        own = [] if now is None else [one for one in now.deployed if one.label == self._label]
        return undeployed(self._claim.api, self._claim.names, own[0]) if own else None


def deployed(claim: Claim, *, is_first: bool) -> Step:
    """Return the step that deploys the model; the arguments are those of what it does."""
    deploying, version = _Deploying(claim, is_first=is_first), claim.request.version
    making, removal = deploying.making, Repeated(deploying.remove)
    undo = Step(Verb.DELETE, KIND, version, do=removal.begin, ready=removal.poll)
    resources = claim.settings.resources()
    few, most = resources["minReplicaCount"], resources["maxReplicaCount"]
    detail = f"{few if few == most else f'{few} to {most}'} x {claim.settings.machine}"
    return Step(Verb.CREATE, KIND, version, detail, do=making.begin, ready=making.poll, undo=(undo,))


def moved(claim: Claim, before: Endpoint) -> Step:
    """Return the step that moves all traffic to the model."""
    version, old = claim.request.version, {one.id: one.traffic for one in before.deployed if one.traffic}

    def move() -> None:
        now = claim.held()
        new = now.of(version)
        if new is None:
            raise _gone()
        if now.split != {new.id: ALL}:
            claim.patch(now, {"trafficSplit": {new.id: ALL}}, "trafficSplit")

    def move_back() -> None:
        now = claim.now()
        if now is not None and now.call == claim.request.call and now.split != old:
            claim.patch(now, {"trafficSplit": old}, "trafficSplit")

    undo = Step(Verb.UPDATE, "traffic", claim.request.name, do=move_back)
    return Step(Verb.UPDATE, "traffic", claim.request.name, f"0 -> {ALL} % to {version}", do=move, undo=(undo,))


def undeployment(
    api: Api, names: Names, one: Deployed, is_wanted: Callable[[Endpoint, Deployed], bool] = lambda *_: True
) -> Step:
    """Return the step that takes a model from its endpoint.

    Args:
        api: The API.
        names: The paths.
        one: The model on the endpoint.
        is_wanted: Whether that is still to be done, by the endpoint and the model on it as they are then.
    """

    def remove() -> Operation | None:
        running = running_on(api, names.endpoint)
        if running is not None:
            return running
        told = api.find(names.endpoint)
        now = None if told is None else Endpoint(told)
        found = None if now is None else next((other for other in now.deployed if other.id == one.id), None)
        if now is None or found is None or not is_wanted(now, found):
            return None
        return undeployed(api, names, found)

    gone = Repeated(remove)
    return Step(Verb.DELETE, KIND, one.model, do=gone.begin, ready=gone.poll)


def _gone() -> DeployError:
    return DeployError("the model is not on the endpoint.", hint="another call may have undeployed it; deploy again.")


def undeployed(api: Api, names: Names, one: Deployed) -> Operation:
    """Begin to undeploy a model; the API refuses one that has traffic, unless it is the last."""
    return Operation(api, api.post(f"{names.endpoint}:undeployModel", {"deployedModelId": one.id}))


def _body(claim: Claim, now: Endpoint, label: str) -> dict[str, Any]:
    """Return the model for the endpoint, with an ID: of two equal calls at once the second is refused."""
    settings, beside = claim.settings, sorted(one.id for one in now.deployed)
    digest = hashlib.sha256(json.dumps([claim.request.identity, beside]).encode()).hexdigest()
    account = {} if settings.service_account is None else {"serviceAccount": settings.service_account}
    return {
        "id": str(_SMALLEST + int(digest, 16) % (9 * _SMALLEST)),
        "model": claim.names.model(claim.request.version),
        "displayName": label,
        "dedicatedResources": settings.resources(),
        **account,
    }
