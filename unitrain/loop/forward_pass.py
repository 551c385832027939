"""A forward pass over the training data that only updates the model's buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.data.batch import unpack
from unitrain.data.batches import Batches
from unitrain.data.position import copied_state, keeper
from unitrain.loop.precision import converted, within

if TYPE_CHECKING:
    from unitrain.backends.protocol import FitJob
    from unitrain.loop.precision import Context
    from unitrain.spec import TrainSpec


def forward_epoch(job: FitJob, batches: Batches, context: Context) -> None:
    """Call the model on each training batch of an epoch, in its current modes, without gradients.

    Args:
        job: The fit.
        batches: The batches of the fit; read again if each epoch repeats the first (``overfit_batches``).
        context: Creates the context of a forward pass, or None.
    """
    source = job.train
    if not source.repeat:
        batches = Batches(converted(source, job.config.precision), lambda: job.hub.state.epoch)
    forward = within(context, _forward)
    rng, holder = source.snapshot(), keeper(source.loader, midway=False)
    position = None if holder is None else copied_state(holder)
    try:
        with torch.no_grad():
            for batch in batches:
                forward(job.spec, batch)
    finally:
        rng.restore()
        if holder is not None:
            holder.load_state_dict(position)


def _forward(spec: TrainSpec, batch: Any) -> None:
    if spec.training_step is not None:
        spec.training_step(spec.model, batch)
    else:
        spec.model(unpack(batch)[0])
