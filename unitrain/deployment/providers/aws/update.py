"""Updates an endpoint without downtime, and takes that back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls
    from unitrain.deployment.providers.aws.endpoint import Endpoint
    from unitrain.deployment.steps import Poll


class Update:
    """The change of an endpoint from one config to another by one call.

    Args:
        calls: Asks AWS.
        endpoint: The endpoint.
        config: The config that it is to run.
        tags: The tags that it has, as SageMaker takes them.
    """

    def __init__(self, calls: Calls, endpoint: Endpoint, config: str, tags: list[dict[str, str]]) -> None:
        self._calls, self._endpoint, self._config, self._tags = calls, endpoint, config, tags
        self._before = ""
        self._is_accepted = False
        self._is_removed = False
        self._restored: Poll | None = None

    def step(self, detail: str) -> Step:
        """Return the step that updates the endpoint."""
        name = self._endpoint.name
        undo = (
            Step(Verb.WAIT, "endpoint", name, ready=self._settled),
            Step(Verb.DELETE, "endpoint", name, do=self._remove_failed, ready=self._removed),
            Step(Verb.UPDATE, "endpoint", name, do=self._restore, ready=self._back),
        )
        ready = self._endpoint.serving(self._config)
        return Step(Verb.UPDATE, "endpoint", name, detail, do=self._update, ready=ready, undo=undo)

    def _update(self) -> None:
        """Update it; a lost attempt, or another call, may have done so already.

        Raises:
            DeployError: If SageMaker refuses it, such as while another call updates it.
        """
        seen = self._endpoint.look()
        if seen is None:
            raise DeployError(f"the endpoint {self._endpoint.name} was deleted by another call.", hint="deploy again.")
        if seen.heading == self._config:
            return
        self._before = seen.config
        try:
            self._change(self._config)
        except DeployError:
            if not self._is_heading_here():
                raise
        self._is_accepted = True

    def _change(self, config: str) -> None:
        self._calls("sagemaker", "update_endpoint", EndpointName=self._endpoint.name, EndpointConfigName=config)

    def _is_heading_here(self) -> bool:
        seen = self._endpoint.look()
        return seen is not None and seen.heading == self._config

    def _settled(self) -> str | None:
        """SageMaker updates no endpoint that it still updates."""
        return self._endpoint.settled() if self._is_accepted else None

    def _remove_failed(self) -> None:
        """A failed endpoint can only be deleted; it is created again with what it ran before."""
        seen = self._endpoint.look()
        if self._is_accepted and seen is not None and seen.state == "Failed":
            self._is_removed = True
            self._endpoint.resources.delete(self._endpoint.name)

    def _removed(self) -> str | None:
        return self._endpoint.gone() if self._is_removed else None

    def _restore(self) -> None:
        name = self._endpoint.name
        if self._is_removed:
            self._endpoint.resources.create(name, name, EndpointConfigName=self._before, Tags=self._tags)
        elif self._is_accepted and self._is_heading_here():
            self._change(self._before)
        else:
            return
        self._restored = self._endpoint.serving(self._before)

    def _back(self) -> str | None:
        return None if self._restored is None else self._restored()
