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
    """Where a run is between two batches.

    Attributes:
        epochs_done: Whole epochs behind.
        in_epoch: Batches done in the running epoch, or in the one that just ended.
        midway: Whether the run resumes within an epoch.
        meter: What training has measured in the running epoch.
        rng: The global generators now.
        val_rng: What the parts of the validation loaders keep of random states, by place.
        rng_at_iter: The generators when the running epoch's iterator was made.
        rng_before_ahead: The generators before the batch that was read ahead, if one was.
        gradients: Pending gradients by parameter name: within an accumulation window, and in manual optimization.
        scaler: The gradient scaler's state, where there is one.
        rng_at_load: The global generators before the loaders were made, where they are recreated in some epochs.
        remembered: What metrics keep over epochs, as the extremes of a MinMaxMetric, by stage and by metric.
        loader: The state of the loader or dataset that tracks its own position, if it does.
        accumulate: The option ``accumulate_grad_batches``, and what a handler has made of it.
        loss: What the run has changed in the state of its loss.
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
    """Return where this process resumes.

    With as many processes as before, each resumes exactly where it was. With another number, the model, the optimizers
    and the pending gradients are the same; the order of the samples too, of which as many are left out as the whole
    rounds that were done; each process draws other random numbers, and measures the rest of a running epoch only.

    Args:
        states: The fields of Progress of each process that wrote the checkpoint.
        team: The processes that continue.
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
    """Return the means of the pending gradients: what each new process contributes is what all old ones did."""
    names = dict.fromkeys(name for one in gradients for name in one)
    return {
        name: torch.stack([one[name] for one in gradients if name in one]).sum(0) / len(gradients) for name in names
    }
