"""``unitrain.deploy``: from a bundle to a deployment that answers."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.bundle.bundle import Bundle, read_bundle
from unitrain.deployment.bundle.verify import verified
from unitrain.deployment.deployment import Deployment
from unitrain.deployment.execution import TIMEOUT, Course
from unitrain.deployment.providers.provider import ACCEPTED, Request
from unitrain.deployment.providers.registry import connected
from unitrain.deployment.settings import as_options, identity
from unitrain.deployment.steps import Plan
from unitrain.errors import DeployError, complete_call

if TYPE_CHECKING:
    from pathlib import Path

_DIGITS: Final = 10


@complete_call(DeployError, f'unitrain.deploy(bundle, provider="local", name="digits"); {ACCEPTED}')
def deploy(
    bundle: Bundle | str | Path,
    *,
    provider: str,
    name: str,
    dry_run: bool = False,
    wait: bool = True,
    timeout: float = TIMEOUT,
    progress: bool = True,
    **settings: Any,
) -> Deployment:
    """Deploy a bundle, or update the deployment of that name without a failed request.

    To deploy the same again does nothing. Where a step fails, what this call made is removed again, and what was there
    before remains.

    Args:
        bundle: What ``unitrain.bundle`` returned, or the path of its folder or archive.
        provider: ``"local"``, ``"aws"``, ``"gcp"``, or that of an installed package.
        name: Of the deployment.
        dry_run: Only read, and return the plan.
        wait: Whether to wait until it answers. If not, the call returns at the first step that takes time; ``wait()``,
            or the same call again, continues.
        timeout: Seconds to wait for one step.
        progress: Whether to write what is done to standard error.
        **settings: Of the provider: ``unitrain deploy --help`` lists them.

    Returns:
        The deployment: ``print(d)`` shows the plan; ``d.url``, ``d.predict(x)``, ``d.status()``, ``d.undeploy()``.

    Raises:
        DeployError: If a setting or the name is invalid, the bundle is damaged, or a step fails.

    Example:
        >>> _ = export_module(torch.nn.Linear(4, 3), "model.onnx", example_input=torch.randn(8, 4))
        >>> made = bundle("model.onnx", "out")
        >>> d = deploy(made, provider="local", name="example", folder="here", progress=False)
        >>> len(d.predict([0.1, 0.2, 0.3, 0.4]))
        3
        >>> d.undeploy()
    """
    course = Course(dry_run=dry_run, wait=wait, timeout=timeout, progress=progress)
    there = connected(provider, name, settings, is_deploy=True)
    given = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    verified(given.path)
    if given.target not in there.targets:
        raise DeployError(
            f"provider={provider!r} takes bundles for {' or '.join(there.targets)}; this one is for {given.target!r}.",
            hint=f'unitrain.bundle(..., target="{there.targets[0]}")',
        )
    request = Request(given, name, _identity(given, there), uuid.uuid4().hex[:12])
    plan = Plan(f"deploy {name} on {there.name}", tuple(there.plan(request)))
    where = f"{name} --provider {provider}{as_options(there.settings)}"
    how = f"The same deploy continues, `unitrain status {where}` shows it, `unitrain undeploy {where}` removes it."
    execution = course.execution(plan, how)
    made = Deployment(there, request, execution, plan)
    course.run(execution)
    return made


def _identity(bundle: Bundle, there: Any) -> str:
    """Return the hash of what is deployed."""
    told = json.dumps([bundle.digest, identity(there.settings)], sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:_DIGITS]
