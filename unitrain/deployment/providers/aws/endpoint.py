"""The states of an endpoint.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.aws.resources import ENDPOINT, Resources
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls
    from unitrain.deployment.steps import Poll

MOVING: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
"""It can be neither updated nor deleted."""
ANSWERING: Final = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"})
STUCK: Final = frozenset({"OutOfService", "UpdateRollbackFailed", "Failed"})

_PATIENCE: Final = 30.0
"""Seconds for which an endpoint may still seem untouched by an update that was accepted."""


@dataclass(frozen=True)
class Look:
    """What an endpoint looks like.

    Attributes:
        state: One of SageMaker's nine.
        config: The config that it runs.
        pending: The config that it is about to run, or an empty text.
        reason: The last ``FailureReason``.
        described: All that SageMaker says.
    """

    state: str
    config: str
    pending: str
    reason: str
    described: dict[str, Any]

    @property
    def heading(self) -> str:
        """The config that it will run if all goes well."""
        return self.pending or self.config

    def uses(self, config: str) -> bool:
        """Whether it runs a config, or may still."""
        return self.state not in ("Failed", "Deleting") and config in (self.config, self.pending)


class Endpoint:
    """One endpoint.

    Attributes:
        name: Its name.
        resources: All endpoints.

    Args:
        calls: Asks AWS.
        name: As the attribute.
    """

    def __init__(self, calls: Calls, name: str) -> None:
        self.name, self.resources = name, Resources(calls, ENDPOINT)

    def look(self) -> Look | None:
        """Return what it looks like; None if there is none."""
        found = self.resources.find(self.name)
        return None if found is None else _look(found)

    def owned(self) -> Look | None:
        """Return what it looks like; None if there is none.

        Raises:
            DeployError: If it is not unitrain's.
        """
        found = self.resources.owned(self.name, self.name)
        return None if found is None else _look(found)

    def gone(self) -> str | None:
        """Return its state until it is gone."""
        seen = self.look()
        return None if seen is None else seen.state

    def settled(self) -> str | None:
        """Return its state until it can be updated or deleted."""
        seen = self.look()
        return seen.state if seen is not None and seen.state in MOVING else None

    def serving(self, config: str) -> Poll:
        """Return what tells its state until it answers with ``config``."""
        began, has_moved, reason = time.monotonic(), False, ""

        def ready() -> str | None:
            nonlocal has_moved, reason
            seen = self.look()
            if seen is None or seen.state == "Deleting":
                raise DeployError(f"the endpoint {self.name} was deleted by another call.", hint="deploy again.")
            reason = seen.reason or reason
            if seen.state in STUCK:
                raise self._failure(seen.state, reason)
            if seen.state != "InService":
                has_moved = True
                return seen.state
            if seen.config == config:
                return None
            if not has_moved and time.monotonic() < began + _PATIENCE:
                return f"{seen.state} with {seen.config}"
            raise self._failure(f"{seen.state} with {seen.config}, not with {config}", reason)

        return ready

    def _failure(self, state: str, reason: str) -> DeployError:
        told = reason.rstrip(".") or "SageMaker gave no reason; another call may have changed it"
        hint = f"the container's log is in CloudWatch, /aws/sagemaker/Endpoints/{self.name}."
        return DeployError(f"it is {state}: {told}.", hint=hint)


def _look(found: dict[str, Any]) -> Look:
    pending = found.get("PendingDeploymentSummary") or {}
    return Look(
        found["EndpointStatus"],
        found["EndpointConfigName"],
        pending.get("EndpointConfigName", ""),
        found.get("FailureReason", ""),
        found,
    )
