"""Lightning's checkpoint layout, so that a plain Trainer can resume.

The whole tree of loops is written: without it Lightning loads the file without an error and trains to another result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYOUT_VERSION = "2.6.6"
"""The layout's version; Lightning migrates what is older."""

VERSION = "pytorch-lightning_version"
"""Where Lightning looks for the layout's version."""

KEY = "unitrain"
"""The key of unitrain's own part of a file."""

PREFIX = "model."
"""The attribute of the user's model in the module that Lightning would restore."""

FORMAT = 2
"""The format of unitrain's own part; a file of a newer one is refused. Since 2, the words of generators are tensors."""

_STATES = ("ready", "started", "processed", "completed")


@dataclass(frozen=True)
class Counts:
    """The counters of Lightning's loops.

    Attributes:
        epoch: The running epoch, from 0.
        batches: Training batches done in the run.
        batches_in_epoch: Training batches done in the running epoch.
        steps: Optimizer steps, summed over the optimizers.
        midway: Whether the run resumes within an epoch.
        validated: Whether a validation has run.
    """

    epoch: int
    batches: int
    batches_in_epoch: int
    steps: int
    midway: bool
    validated: bool


def _tracker(names: tuple[str, ...], **counts: int) -> dict[str, int]:
    return {name: counts.get(name, counts["all"]) for name in names}


def _progress(total: dict[str, int], current: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"total": total, "current": current, **more}


def _zero(names: tuple[str, ...], **more: Any) -> dict[str, Any]:
    return _progress(_tracker(names, all=0), _tracker(names, all=0), **more)


def loops(counts: Counts) -> dict[str, Any]:
    """Return the states of Lightning's loops after a batch, or at an epoch's very end."""
    pair = ("ready", "completed")
    done = _tracker(_STATES, all=counts.batches)
    here = _tracker(_STATES, all=counts.batches_in_epoch)
    processed = counts.epoch if counts.midway else counts.epoch + 1
    epochs = _tracker(_STATES, all=counts.epoch + 1, processed=processed, completed=counts.epoch)
    steps = _tracker(pair, all=counts.steps)
    here_steps = _tracker(pair, all=min(counts.steps, counts.batches_in_epoch))
    cleared = ("ready", "started", "completed")
    optimizer = {
        "step": _progress(steps, here_steps),
        "zero_grad": _progress(_tracker(cleared, all=counts.steps), _tracker(cleared, all=here_steps["ready"])),
    }
    evaluated = {"state_dict": {}, "batch_progress": _zero(_STATES, is_last_batch=False)}
    fit = {
        "state_dict": {"combined_loader": [{"unitrain": "midway"}]} if counts.midway else {},
        "epoch_loop.state_dict": {"_batches_that_stepped": counts.steps},
        "epoch_loop.batch_progress": _progress(done, here, is_last_batch=not counts.midway),
        "epoch_loop.scheduler_progress": _zero(pair),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": optimizer},
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": _progress(steps, steps),
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": _zero(_STATES, is_last_batch=counts.validated and not counts.midway),
        "epoch_progress": _progress(epochs, dict(epochs)),
    }
    predicted = {"state_dict": {}, "batch_progress": _zero(_STATES)}
    return {"fit_loop": fit, "validate_loop": evaluated, "test_loop": evaluated, "predict_loop": predicted}
