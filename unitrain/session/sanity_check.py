"""Sanity validation: a few validation batches before training, to fail early."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unitrain.backends.protocol import EvalJob, Stage
from unitrain.config import UNLIMITED
from unitrain.data.position import copied_state, keeper
from unitrain.run.hub import Event, EventHub
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from unitrain.backends.protocol import Adapter, FitJob
    from unitrain.data.sources import DataSource
    from unitrain.run.context import RunContext


def validate_first(adapter: Adapter, job: FitJob) -> None:
    """Validate on the first ``num_sanity_val_steps`` batches of each loader, without side effects.

    It uses a backend object and an event hub of its own: no handler, callback or tracker is called, and counters,
    metrics and random states are unchanged. Only state that the user's own code keeps may change.

    Args:
        adapter: The backend of the fit.
        job: The fit that is about to start.
    """
    count = job.config.num_sanity_val_steps
    if not count or not job.val:
        return
    hub = EventHub()
    hub.on(Event.VAL_START, lambda run: _show(job.hub, run))
    holders = [holder for source in job.val if (holder := keeper(source.loader, midway=False)) is not None]
    states = [copied_state(holder) for holder in holders]
    check = EvalJob(
        spec=job.spec,
        config=job.config,
        hub=hub,
        data=[_first(source, count) for source in job.val],
        stage=Stage.VAL,
        device=job.device,
        team=job.team,
        sharded=job.sharded,
    )
    with preserved_rng(generator for source in job.val for generator in source.generators):
        adapter.build(replace(job.config, callbacks=(), loggers=()), job.device, (), job.team).evaluate(check)
    for source in job.val:
        source.workers.close(source.loader)  # workers that are kept have drawn random numbers of their own
    for holder, state in zip(holders, states, strict=True):
        holder.load_state_dict(state)
    job.hub.context = None


def _show(hub: EventHub, run: RunContext) -> None:
    """Make this run available to ``trainer.log()`` in validation steps, and fire EXCEPTION if it fails."""
    hub.context = run


def _first(source: DataSource, count: int) -> DataSource:
    """Return ``source`` limited to at most ``count`` batches."""
    if count == UNLIMITED:
        return source
    length = source.length
    return replace(source, limit=count if length is None else min(count, length))
