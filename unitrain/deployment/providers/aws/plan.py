"""Plans a deployment: from what is there to what is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.aws.checks import account, require_bucket, require_image
from unitrain.deployment.providers.aws.creation import Creation
from unitrain.deployment.providers.aws.endpoint import MOVING, STUCK, Endpoint, Look
from unitrain.deployment.providers.aws.removal import deletion
from unitrain.deployment.providers.aws.storage import Place, Storage
from unitrain.deployment.providers.aws.update import Update
from unitrain.deployment.providers.aws.versions import Versions
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls
    from unitrain.deployment.providers.aws.settings import Settings
    from unitrain.deployment.providers.provider import Request

_VARIANT: Final = "AllTraffic"
_DIGITS: Final = 32


def plan(calls: Calls, settings: Settings, request: Request) -> list[Step]:
    """Return the steps of a deployment.

    Raises:
        DeployError: If it is certain that one of them would fail.
    """
    owner = account(calls)
    bucket = settings.bucket or f"sagemaker-{calls.region}-{owner}"
    require_bucket(calls, bucket, owner)
    require_image(calls, str(settings.image))
    place = Place(bucket, f"{settings.prefix}/{request.name}/{request.bundle.digest[:_DIGITS]}/model.tar.gz")
    endpoint = Endpoint(calls, request.name)
    seen = endpoint.owned()
    versions = Versions(calls, endpoint)
    tags = settings.tag_list(request.name, request.call)
    return [
        Storage(calls, request.name, owner).upload(request.bundle, place, request.call),
        versions.model(request, {**_model(settings, place), "Tags": tags}),
        versions.config(request, {**_config(settings, request), "Tags": tags}),
        *_Change(calls, request, endpoint, seen).steps(tags),
        *versions.removal(keep=request.version),
    ]


def _model(settings: Settings, place: Place) -> dict[str, Any]:
    return {
        "PrimaryContainer": {"Image": settings.image, "ModelDataUrl": place.url},
        "ExecutionRoleArn": settings.role,
        "EnableNetworkIsolation": settings.network_isolation,
    }


def _config(settings: Settings, request: Request) -> dict[str, Any]:
    variant = {
        "VariantName": _VARIANT,
        "ModelName": request.version,
        "InstanceType": settings.instance,
        "InitialInstanceCount": settings.count,
        "InitialVariantWeight": 1.0,
    }
    return {"ProductionVariants": [variant]}


@dataclass(frozen=True)
class _Change:
    """What happens to the endpoint.

    Attributes:
        calls: Asks AWS.
        request: What is to be deployed.
        endpoint: The endpoint.
        seen: What it looks like; None if there is none.
    """

    calls: Calls
    request: Request
    endpoint: Endpoint
    seen: Look | None

    def steps(self, tags: list[dict[str, str]]) -> list[Step]:
        """Return the steps.

        Args:
            tags: Of an endpoint that is created.

        Raises:
            DeployError: If SageMaker lets nobody change the endpoint.
        """
        seen, version = self.seen, self.request.version
        creation = Creation(self.endpoint, version, self.request.call, tags).step("")
        if seen is None:
            return [creation]
        if seen.state == "Deleting":
            return [self._wait(seen), creation]
        if seen.state == "Failed":
            return [deletion(self.endpoint, f"it is Failed: {seen.reason}"), creation]
        if seen.heading != version:
            first = [self._wait(seen)] if seen.state in MOVING else []
            return [*first, self._update(seen)]
        if seen.state in STUCK:
            hint = f"`unitrain undeploy {self.request.name} --provider aws` first."
            raise DeployError(f"the endpoint {self.request.name} is {seen.state}: {seen.reason}.", hint=hint)
        return [Step(Verb.KEEP, "endpoint", self.request.name, ready=self.endpoint.serving(version))]

    def _wait(self, seen: Look) -> Step:
        ready = self.endpoint.gone if seen.state == "Deleting" else self.endpoint.settled
        return Step(Verb.WAIT, "endpoint", self.request.name, f"it is {seen.state}", ready=ready)

    def _update(self, seen: Look) -> Step:
        found = self.endpoint.resources.tags(seen.described)
        tags = [{"Key": key, "Value": value} for key, value in found.items()]
        update = Update(self.calls, self.endpoint, self.request.version, tags)
        return update.step(f"it runs {seen.heading}")
