"""The steps that remove a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.deployment.providers.gcp import endpoint, model, traffic
from unitrain.deployment.providers.gcp.operations import Operation, Repeated
from unitrain.deployment.providers.gcp.resources import Endpoint, running_on
from unitrain.deployment.providers.gcp.settings import OWN
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.deployment.providers.gcp.api import Api
    from unitrain.deployment.providers.gcp.resources import Found, Names


def removing(api: Api, names: Names, found: Found) -> Iterator[Step]:
    """Yield the steps: what is deployed, the endpoint, then the models, which only then can be deleted."""
    if found.endpoint is not None:
        for one in found.endpoint.deployed:
            yield traffic.undeployment(api, names, one)
        gone = _endpoint(api, names)
        yield Step(Verb.DELETE, endpoint.KIND, names.name, do=gone.begin, ready=gone.poll)
        making = f"{OWN}-{names.name}-{found.endpoint.version}"  # by a deploy that was stopped
        if making not in found.models and running_on(api, names.model(making)) is not None:
            yield model.deletion(api, names, making)
    for other in found.models:
        yield model.deletion(api, names, other)


def _endpoint(api: Api, names: Names) -> Repeated:
    def remove() -> Operation | None:
        running = running_on(api, names.endpoint)
        if running is not None:
            return running
        told = api.find(names.endpoint)
        if told is None or told.get("labels", {}).get(OWN) != names.name:
            return None
        for one in Endpoint(told).deployed:  # by a deploy that ran when this was planned
            if not names.is_own_model(one.model):
                raise DeployError(f"the model {one.model} was deployed on it.", hint="undeploy it there by hand.")
            return traffic.undeployed(api, names, one)
        return Operation(api, api.delete(names.endpoint))

    return Repeated(remove)
