"""The steps from what is there to what is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unitrain.deployment.providers.gcp import endpoint, model, traffic
from unitrain.deployment.providers.gcp.operations import RUNNING
from unitrain.deployment.providers.gcp.resources import ALL, running_on
from unitrain.deployment.steps import Step, Verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.deployment.providers.gcp.claim import Claim
    from unitrain.deployment.providers.gcp.resources import Deployed, Endpoint, Found


def deploying(claim: Claim, found: Found) -> Iterator[Step]:
    """Yield the steps; the endpoint comes first, since it tells two calls at once apart.

    Raises:
        DeployError: If another call is running, or a model that has our ID is not ours.
    """
    before, version = found.endpoint, claim.request.version
    if before is None:
        yield endpoint.created(claim)
    else:
        yield from _turn(claim, found, before)
    if version in found.models:
        yield Step(Verb.KEEP, model.KIND, version)
    else:
        model.refuse_foreign(claim)
        yield model.uploaded(claim)
    yield from _serving(claim, found)
    yield from _leftovers(claim, found)


def _turn(claim: Claim, found: Found, before: Endpoint) -> Iterator[Step]:
    if found.is_busy:
        if before.version != claim.request.identity:
            raise claim.lost()
        yield waited(claim)
    if _is_complete(claim, found, before):
        yield Step(Verb.KEEP, endpoint.KIND, claim.request.name)
    else:
        yield endpoint.claimed(claim, before)


def _is_complete(claim: Claim, found: Found, before: Endpoint) -> bool:
    """Return whether nothing is to be done but to clean up."""
    there = before.of(claim.request.version)
    is_wanted = before.version == claim.request.identity and claim.request.version in found.models
    return is_wanted and there is not None and before.split == {there.id: ALL}


def waited(claim: Claim) -> Step:
    """Return the step that waits for what an earlier call has begun."""

    def poll() -> str | None:
        return None if running_on(claim.api, claim.names.endpoint) is None else RUNNING

    return Step(Verb.WAIT, endpoint.KIND, claim.request.name, "an earlier call has begun something", ready=poll)


def _serving(claim: Claim, found: Found) -> Iterator[Step]:
    before, version = found.endpoint, claim.request.version
    there = None if before is None else before.of(version)
    is_first = before is None or not (before.deployed or found.is_busy)
    if there is None:
        yield traffic.deployed(claim, is_first=is_first)
    else:
        yield Step(Verb.KEEP, traffic.KIND, version)
    if before is not None and not is_first and (there is None or before.split != {there.id: ALL}):
        yield traffic.moved(claim, before)


def _leftovers(claim: Claim, found: Found) -> Iterator[Step]:
    """Yield the steps that remove what was served before."""
    version, names = claim.request.version, claim.names
    deployed = () if found.endpoint is None else found.endpoint.deployed
    there = None if found.endpoint is None else found.endpoint.of(version)

    def is_idle(now: Endpoint, one: Deployed) -> bool:
        return now.version == claim.request.identity and not one.traffic

    for one in deployed:
        if there is None or one.id != there.id:
            yield replace(traffic.undeployment(claim.api, names, one, is_idle), is_cleanup=True)
    for other in found.models:
        if other != version:
            yield replace(model.deletion(claim.api, names, other, claim.request.identity), is_cleanup=True)
