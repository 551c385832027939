"""Removes deployments, and tells their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.deployment.execution import TIMEOUT, Course
from unitrain.deployment.providers.provider import ACCEPTED
from unitrain.deployment.providers.registry import connected
from unitrain.deployment.settings import as_options
from unitrain.deployment.steps import Plan
from unitrain.errors import DeployError, complete_call

if TYPE_CHECKING:
    from unitrain.deployment.execution import Execution
    from unitrain.deployment.providers.provider import Provider, Status


@complete_call(DeployError, f'unitrain.undeploy("digits", provider="local"); {ACCEPTED}')
def undeploy(
    name: str,
    *,
    provider: str,
    dry_run: bool = False,
    wait: bool = True,
    timeout: float = TIMEOUT,
    progress: bool = True,
    **settings: Any,
) -> Plan:
    """Remove a deployment: what unitrain made for it, and nothing else. If nothing is there, nothing is done.

    Args:
        name: Of the deployment.
        provider: As in ``deploy``.
        dry_run: Only read, and return the plan.
        wait: Whether to wait until everything is gone.
        timeout: As in ``deploy``.
        progress: As in ``deploy``.
        **settings: Those that say where it is, such as ``region=``.

    Returns:
        The plan, which ``print`` shows.

    Raises:
        DeployError: If what has the name is not unitrain's, or a step fails.

    Example:
        >>> print(undeploy("example", provider="local", folder="nowhere"))
        undeploy example on local:
          nothing is there
    """
    course = Course(dry_run=dry_run, wait=wait, timeout=timeout, progress=progress)
    execution = removal(connected(provider, name, settings, is_deploy=False), name, course)
    course.run(execution)
    return execution.plan


def removal(there: Provider, name: str, course: Course) -> Execution:
    """Return what removes a deployment."""
    plan = Plan(f"undeploy {name} on {there.name}", tuple(there.removal(name)))
    how = f"`unitrain undeploy {name} --provider {there.name}{as_options(there.settings)}` again continues."
    return course.execution(plan, how)


def status(name: str, *, provider: str, **settings: Any) -> Status:
    """Return the state of a deployment; it only reads.

    Args:
        name: Of the deployment.
        provider: As in ``deploy``.
        **settings: Those that say where it is, such as ``region=``.

    Raises:
        DeployError: If the provider cannot be asked.
    """
    return connected(provider, name, settings, is_deploy=False).status(name)
