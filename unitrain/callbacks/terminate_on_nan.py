"""Stops a run on non-finite losses or weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from unitrain.callbacks.callback import Callback
from unitrain.distributed.strategies.dtensors import local

if TYPE_CHECKING:
    from torch import nn

    from unitrain.run.context import RunContext


NAN = "nan"


class TerminateOnNaN(Callback):
    """Stops after a batch with a NaN or infinite loss or weight; a warning names it.

    It stops, like Ignite's ``TerminateOnNan``, where Lightning's ``detect_nan_parameters`` raises: the results so far
    are kept, and ``FitResult.stopped_by`` is ``"nan"``. It checks after each batch, which synchronizes with the device
    once per batch.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[TerminateOnNaN()])
    """

    def reset_state(self) -> None:
        """Forget the runs before."""
        self._found = False

    _found = False

    def on_batch_end(self, run: RunContext) -> None:
        """Check the loss and the weights."""
        if self._found:
            return
        loss = run.state.loss
        what = "" if loss is None or bool(torch.isfinite(loss)) else f"the loss is {loss.item()}"
        what = what or _broken_weight(run.model)
        if what:
            self._found = True
            warnings.warn(
                f"TerminateOnNaN: {what} after batch {run.state.batch - 1} of the run, in epoch {run.state.epoch}"
                " (both counted from 0); training stops.",
                stacklevel=2,
            )
            run.hub.request_stop(NAN)


def _broken_weight(model: nn.Module) -> str:
    """Return what is wrong with the weights, or nothing; the device is asked once if all is well."""
    weights = {name: local(one.detach()) for name, one in model.named_parameters() if one.is_floating_point()}
    if not weights or bool(torch.stack([torch.isfinite(one).all() for one in weights.values()]).all()):
        return ""
    name = next(name for name, one in weights.items() if not bool(torch.isfinite(one).all()))
    return f"the parameter {name!r} is not finite"
