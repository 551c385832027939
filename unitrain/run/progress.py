"""The progress of each process, and how to resume with another number of processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from unitrain.utilities.rng import RngSnapshot, preserved_rng, seed_everything

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unitrain.distributed.collectives import Collectives


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a run between two batches.

    Attributes:
        epochs_done: Number of completed epochs.
        in_epoch: Batches done in the running epoch, or in the one that just ended.
        midway: Whether the run resumes within an epoch.
        meter: State of the training metrics of the running epoch.
        rng: State of the global generators.
        val_rng: Random states in the parts of the validation loaders, by place.
        rng_at_iter: State of the generators when the running epoch's iterator was created.
        rng_before_ahead: State of the generators before a batch was read ahead, if one was.
        gradients: Pending gradients by parameter name: within an accumulation window, and in manual optimization.
        scaler: The gradient scaler's state, where there is one.
        rng_at_load: State of the global generators before the loaders were created, if loaders are recreated.
        remembered: Metric state that persists over epochs, such as the extremes of a MinMaxMetric, by stage and metric.
        loader: The state of the loader or dataset that tracks its own position, if it does.
        accumulate: The option ``accumulate_grad_batches``, and its value set by a handler.
        loss: The part of the loss's state that the run has changed.
    """

    epochs_done: int
    in_epoch: int = 0
    midway: bool = False
    meter: dict[str, Any] | None = None
    rng: dict[str, Any] | None = None
    val_rng: dict[str, Any] | None = None
    rng_at_iter: dict[str, Any] | None = None
    rng_before_ahead: dict[str, Any] | None = None
    gradients: dict[str, Tensor] | None = None
    scaler: dict[str, Any] | None = None
    rng_at_load: dict[str, Any] | None = None
    remembered: dict[str, dict[str, Any]] | None = None
    loader: Any = None
    accumulate: list[int] | None = None
    loss: dict[str, Any] | None = None


def shared_out(states: Sequence[dict[str, Any]], team: Collectives) -> Progress:
    """Return the progress of this process in the resumed run.

    With the same number of processes, each resumes exactly. With another number, the model, the optimizers, the pending
    gradients and the order of the samples are the same, and the samples of completed rounds are skipped; but processes
    draw other random numbers, and metrics cover only the rest of a running epoch.

    Args:
        states: The fields of Progress of each process that wrote the checkpoint.
        team: The processes of the resumed run.
    """
    found = [Progress(**state) for state in states]
    if len(found) == team.size:
        return found[team.rank]
    first = found[0]
    rng = first.rng if team.rank == 0 or first.rng is None else _other_rng(first, team.rank)
    return replace(
        first,
        in_epoch=first.in_epoch * len(found) // team.size,
        meter=None,
        rng=rng,
        rng_at_iter=None if first.rng_at_iter is None else rng,
        rng_before_ahead=None if first.rng_before_ahead is None else rng,
        gradients=None if first.gradients is None else _mean([one.gradients or {} for one in found]),
        loader=None,
    )


def _other_rng(progress: Progress, rank: int) -> dict[str, Any]:
    """Return generators for a process that did not exist, drawn from those of rank 0."""
    with preserved_rng():
        RngSnapshot.from_state_dict((progress.rng or {}) | {"others": []}).restore()
        seed_everything(int(torch.randint(2**31, ())) + rank)
        return RngSnapshot([]).state_dict() | {"others": (progress.rng or {})["others"]}


def _mean(gradients: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the means of the pending gradients, so that new processes together contribute the same as the old ones."""
    names = dict.fromkeys(name for one in gradients for name in one)
    return {
        name: torch.stack([one[name] for one in gradients if name in one]).sum(0) / len(gradients) for name in names
    }
