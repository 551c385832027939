"""Makes the model: a name for the image, which holds all files of the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.gcp.claim import Creation
from unitrain.deployment.providers.gcp.operations import Operation, Repeated
from unitrain.deployment.providers.gcp.resources import CALL, VERSION, Endpoint, running_on
from unitrain.deployment.providers.gcp.settings import OWN
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.gcp.api import Api
    from unitrain.deployment.providers.gcp.claim import Claim
    from unitrain.deployment.providers.gcp.resources import Names

KIND: Final = "model"
_PORT: Final = 8080
_DIGITS: Final = 12


def uploaded(claim: Claim) -> Step:
    """Return the step that uploads the model."""
    version, api, path = claim.request.version, claim.api, claim.names.model(claim.request.version)

    def check() -> None:
        claim.held()
        told = api.find(path)
        if told is None:  # the clean-up of another call has just removed it
            raise claim.lost()
        labels = told.get("labels", {})
        if (labels.get(OWN), labels.get(VERSION)) != (claim.request.name, claim.request.identity):
            raise _foreign(version)

    making = Creation(api, path, lambda: api.post(f"{claim.names.models}:upload", _body(claim)), check)

    def remove() -> Operation | None:
        told = api.find(path)
        if told is None:
            return making.unfinished()
        is_own = told.get("labels", {}).get(CALL) == claim.request.call
        return Operation(api, api.delete(path)) if is_own and not claim.is_lost_to_equal() else None

    removal = Repeated(remove)
    undo = Step(Verb.DELETE, KIND, version, do=removal.begin, ready=removal.poll)
    digest = claim.request.bundle.digest[:_DIGITS]
    detail = f"{claim.settings.image}, to be built of the bundle {digest}"
    return Step(Verb.CREATE, KIND, version, detail, do=making.begin, ready=making.poll, undo=(undo,))


def refuse_foreign(claim: Claim) -> None:
    """Refuse a model that has our ID, but not our labels; it only reads.

    Raises:
        DeployError: If there is one.
    """
    if claim.api.find(claim.names.model(claim.request.version)) is not None:
        raise _foreign(claim.request.version)


def deletion(api: Api, names: Names, model: str, version: str | None = None) -> Step:
    """Return the step that deletes a model of a deployment, once it is no longer used.

    Args:
        api: The API.
        names: The paths.
        model: Its ID.
        version: What the endpoint must still be to serve; by default it does not matter.
    """
    path = names.model(model)

    def remove() -> Operation | None:
        told, endpoint = api.find(path), api.find(names.endpoint)
        now = None if endpoint is None else Endpoint(endpoint)
        is_own = told is not None and told.get("labels", {}).get(OWN) == names.name
        is_wanted = version is None or (now is not None and now.version == version)
        if not (is_own and is_wanted):
            return running_on(api, path) if told is None else None
        if now is not None and now.of(model) is not None:
            raise DeployError("it is still deployed.", hint="undeploy it first.")
        return running_on(api, path) or Operation(api, api.delete(path))

    gone = Repeated(remove)
    return Step(Verb.DELETE, KIND, model, do=gone.begin, ready=gone.poll)


def _body(claim: Claim) -> dict[str, Any]:
    """Return the model; there is no artifact URI, since the files are in the image."""
    request = claim.request
    return {
        "modelId": request.version,
        "model": {
            "displayName": request.version,
            "description": f"unitrain bundle {request.bundle.digest}",
            "containerSpec": {"imageUri": claim.settings.image, "ports": [{"containerPort": _PORT}]},
            "labels": claim.labels,
        },
    }


def _foreign(version: str) -> DeployError:
    return DeployError(
        f"the model {version} is not of unitrain.", hint="choose another name=, or delete that model by hand."
    )
