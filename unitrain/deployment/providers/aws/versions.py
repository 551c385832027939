"""The endpoint configs and models of a deployment; those of one version have one name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.deployment.providers.aws.checks import account
from unitrain.deployment.providers.aws.resources import CONFIG, MODEL, Resources
from unitrain.deployment.providers.aws.storage import Storage, url_of
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls
    from unitrain.deployment.providers.aws.endpoint import Endpoint
    from unitrain.deployment.providers.provider import Request


class Versions:
    """All versions of a deployment.

    Args:
        calls: Asks AWS.
        endpoint: The endpoint that runs one of them.
    """

    def __init__(self, calls: Calls, endpoint: Endpoint) -> None:
        self._calls, self._endpoint = calls, endpoint
        self._configs, self._models = Resources(calls, CONFIG), Resources(calls, MODEL)

    def removal(self, keep: str | None = None) -> list[Step]:
        """Return the steps that remove the configs, then the models with their archives.

        Args:
            keep: The version that remains, if it is the clean-up of a deployment.
        """
        owner, is_cleanup = self._endpoint.name, keep is not None
        steps = []
        for version in self._configs.versions(owner):
            do = partial(self._delete_config, version)
            steps.append(Step(Verb.DELETE, CONFIG.title, version, do=do, is_cleanup=is_cleanup))
        for version in self._models.versions(owner):
            url = url_of(self._models.find(version) or {})
            do = partial(self._delete_model, version, url)
            steps.append(
                Step(
                    Verb.DELETE,
                    MODEL.title,
                    version,
                    "and its archive, unless another needs it",
                    do=do,
                    is_cleanup=is_cleanup,
                )
            )
        return [one for one in steps if one.name != keep]

    def model(self, request: Request, given: dict[str, Any]) -> Step:
        """Return the step that creates the model of a request, unless it is there.

        Raises:
            DeployError: If something else is.
        """
        return self._creation(self._models, request, given, str(given["PrimaryContainer"]["Image"]))

    def config(self, request: Request, given: dict[str, Any]) -> Step:
        """Return the step that creates the endpoint config of a request, unless it is there.

        Raises:
            DeployError: If something else is.
        """
        variant = given["ProductionVariants"][0]
        detail = f"{variant['InitialInstanceCount']} x {variant['InstanceType']}"
        return self._creation(self._configs, request, given, detail)

    def _creation(self, resources: Resources, request: Request, given: dict[str, Any], detail: str) -> Step:
        title, version = resources.kind.title, request.version
        if resources.owned(version, request.name) is not None:
            return Step(Verb.KEEP, title, version, detail)
        do = partial(resources.create, version, request.name, **given)
        undo = Step(Verb.DELETE, title, version, do=partial(self._take_back, resources, request))
        return Step(Verb.CREATE, title, version, detail, do=do, undo=(undo,))

    def _take_back(self, resources: Resources, request: Request) -> None:
        """Delete what a call created, unless another call has used it since."""
        version = request.version
        if not resources.is_of_call(version, request.call) or self._is_used(version):
            return
        if resources is self._models and self._configs.find(version) is not None:
            return
        resources.delete(version)

    def _is_used(self, version: str) -> bool:
        seen = self._endpoint.look()
        return seen is not None and seen.uses(version)

    def _delete_config(self, version: str) -> None:
        self._refuse_used(version)
        self._configs.delete(version)

    def _delete_model(self, version: str, url: str) -> None:
        """Delete the archive first: without its model nobody would find it again."""
        self._refuse_used(version)
        if url:
            Storage(self._calls, self._endpoint.name, account(self._calls)).delete_unused(url, version)
        self._models.delete(version)

    def _refuse_used(self, version: str) -> None:
        """Refuse to delete what another call has deployed since the plan was made.

        Raises:
            DeployError: If the endpoint runs it.
        """
        if self._is_used(version):
            raise DeployError(f"the endpoint {self._endpoint.name} runs {version} again.", hint=None)
