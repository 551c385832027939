"""The formats that belong to no framework: unitrain's portable file, and weights alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unitrain.checkpoint import io
from unitrain.checkpoint.convert.foreign_checkpoint import (
    CheckpointCodec,
    ForeignCheckpoint,
    TrainingPosition,
    Writer,
    is_weights,
    well_formed,
)
from unitrain.checkpoint.layout import KEY
from unitrain.checkpoint.model_weights import weights_of
from unitrain.checkpoint.safetensors_file import packed

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.checkpoint.convert.to_portable import Template

_OWN = ("History", "Tracking")
"""Callbacks of every run, whose state is only useful to unitrain."""

_ANEW = "the states of the random number generators: later draws, such as the order of a shuffled epoch, are new"

_BUT_WEIGHTS = "everything but the weights"


class PortableCodec(CheckpointCodec):
    """unitrain's own format, through which all others are converted."""

    name = "portable"
    description = "unitrain's own, resumable on every backend"

    def recognises(self, content: dict[str, Any]) -> bool:
        """Return whether it has unitrain's own part."""
        return isinstance(content.get(KEY), dict)

    def read(self, path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
        """Return the content unchanged; ``run_of`` reads it."""
        return ForeignCheckpoint(path, self.name, content)

    def write(self, run: ForeignCheckpoint, target: Path, template: Template | None) -> list[str]:
        """Write the portable content."""
        del template
        io.write(target, run.content)
        progress = run.content[KEY]["progress"]
        if progress["rng"] is not None:
            return []
        here = [f"the data order of the current epoch: {progress['in_epoch']} batches of a new order are skipped"]
        here += ["the pending gradients, if gradients were accumulated", "the metrics of the current epoch"]
        return [_ANEW, *(here if progress["midway"] else [])]

    def write_weights(self, weights: dict[str, Any], target: Path, template: Template | None, lost: list[str]) -> None:
        """Raise: without a run there is no portable file."""
        raise NotImplementedError


class WeightsCodec(CheckpointCodec):
    """Weights alone: a bare state_dict is read, and safetensors are written."""

    name = "weights"
    description = "weights only: a bare state_dict, or .safetensors"

    def recognises(self, content: dict[str, Any]) -> bool:
        """Return whether it is a state_dict."""
        return is_weights(content)

    def read(self, path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
        """Return the weights."""
        return ForeignCheckpoint(path, self.name, content, weights=content, models=())

    def write(self, run: ForeignCheckpoint, target: Path, template: Template | None) -> list[str]:
        """Write the weights of a run."""
        lost: list[str] = []
        self.write_weights(run.weights, target, template, lost)
        return lost

    def write_weights(self, weights: dict[str, Any], target: Path, template: Template | None, lost: list[str]) -> None:
        """Write safetensors."""
        del template
        content = packed(weights)
        io.write_by(target, lambda file: file.write(content))
        lost.append(_BUT_WEIGHTS)


PORTABLE = PortableCodec()
WEIGHTS = WeightsCodec()


def run_of(taken: ForeignCheckpoint) -> ForeignCheckpoint:
    """Return a portable checkpoint with all fields set, for codecs to write.

    Raises:
        CheckpointError: If it does not have the structure of one.
    """
    with well_formed(taken.path, taken.form):
        return _filled(taken)


def _filled(taken: ForeignCheckpoint) -> ForeignCheckpoint:
    content, own = taken.content, taken.content[KEY]
    progress, planned, done = own["progress"], own.get("run", {}), content["loops"]["fit_loop"]
    return replace(
        taken,
        weights=weights_of(content),
        models=(),
        optimizers=dict(zip(own["names"]["optimizers"], content["optimizer_states"], strict=True)),
        schedules=list(content["lr_schedulers"]),
        scaler=progress["scaler"],
        stand=TrainingPosition(
            progress["epochs_done"],
            progress["in_epoch"],
            progress["midway"],
            batches=done["epoch_loop.batch_progress"]["total"]["completed"],
            steps=content["global_step"],
            stepped=own["hub"]["step"],
            epoch_length=planned.get("epoch_length"),
            max_epochs=planned.get("max_epochs"),
        ),
        hparams=dict(own.get("hparams") or {}),
        written_by=Writer("unitrain", own["versions"]["unitrain"]),
        lost=_left(own),
    )


def _left(own: dict[str, Any]) -> list[str]:
    """Return descriptions of what frameworks' formats cannot store."""
    progress = own["progress"]
    found = {
        "the states of the random number generators": True,
        "the hyper-parameters": bool(own.get("hparams")),
        "the states of callbacks": any(state for name, state in own["callbacks"].items() if name not in _OWN),
        "the position in the epoch's data": progress["midway"],
        "the metrics of the current epoch": progress["midway"],
        "the pending gradients": bool(progress["gradients"]),
    }
    return [what for what, there in found.items() if there]
