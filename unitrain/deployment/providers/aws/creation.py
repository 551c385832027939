"""Creates an endpoint, and takes that back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.endpoint import Endpoint


@dataclass(frozen=True)
class Creation:
    """The creation of an endpoint by one call.

    Attributes:
        endpoint: The endpoint.
        config: What it is to run.
        call: The number of the call.
        tags: As SageMaker takes them.
    """

    endpoint: Endpoint
    config: str
    call: str
    tags: list[dict[str, str]]

    def step(self, detail: str) -> Step:
        """Return the step that creates the endpoint."""
        name = self.endpoint.name
        undo = (
            Step(Verb.WAIT, "endpoint", name, ready=self._settled),
            Step(Verb.DELETE, "endpoint", name, do=self._delete, ready=self._gone),
        )
        ready = self.endpoint.serving(self.config)
        return Step(Verb.CREATE, "endpoint", name, detail, do=self._create, ready=ready, undo=undo)

    def _create(self) -> None:
        """Create it; where another call has created one with the same content, that one is waited for.

        Raises:
            DeployError: If another call has created one with another content.
        """
        endpoint = self.endpoint
        endpoint.resources.create(endpoint.name, endpoint.name, EndpointConfigName=self.config, Tags=self.tags)
        seen = endpoint.look()
        if seen is not None and seen.heading != self.config:
            raise DeployError(f"another call deploys {endpoint.name} with another content.", hint="deploy again later.")

    def _is_ours(self) -> bool:
        """Whether this call created it, and no other call has updated it since."""
        if not self.endpoint.resources.is_of_call(self.endpoint.name, self.call):
            return False
        seen = self.endpoint.look()
        return seen is not None and seen.heading == self.config

    def _settled(self) -> str | None:
        """SageMaker deletes no endpoint that it still creates."""
        return self.endpoint.settled() if self._is_ours() else None

    def _delete(self) -> None:
        if self._is_ours():
            self.endpoint.resources.delete(self.endpoint.name)

    def _gone(self) -> str | None:
        return self.endpoint.gone() if self._is_ours() else None
