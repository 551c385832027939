"""Lightning's checkpoints, of all its releases: read without Lightning, but for those of 1.x and older."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from unitrain.checkpoint import io
from unitrain.checkpoint.convert.foreign_checkpoint import (
    CheckpointCodec,
    ForeignCheckpoint,
    TrainingPosition,
    Writer,
    is_scaler,
)
from unitrain.checkpoint.convert.safe_reading import made_plain
from unitrain.checkpoint.layout import KEY, LAYOUT_VERSION, PREFIX, VERSION, loops
from unitrain.checkpoint.model_weights import weights_of
from unitrain.errors import CheckpointError, install_hint
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from unitrain.spec import TrainSpec

_LEGACY = "legacy_pytorch-lightning_version"
"""The key under which an upgraded file stores its original version."""

_HPARAMS = "hyper_parameters"
_INSTANTIATOR = "_instantiator"
_KEYS = {"epoch", "global_step", VERSION, _LEGACY, "state_dict", "loops", "optimizer_states", "lr_schedulers"}
_KEYS |= {"callbacks", "hparams_name", "hparams_type", _HPARAMS}

_SCALER = "MixedPrecision"
"""The key of the scaler in Lightning's mixed-precision plugin."""

_NO_COUNTERS = (
    "the batch counts, which Lightning before 1.5 did not write: assumed equal to the optimizer steps, as without"
    " accumulation, and the file to be from the end of an epoch"
)


class LightningCodec(CheckpointCodec):
    """Files of any Lightning's."""

    name = "lightning"
    description = "Lightning's"
    rewrites = True
    stand_ins = dict.fromkeys(
        (
            "pytorch_lightning.utilities.parsing.AttributeDict",
            "lightning.pytorch.utilities.parsing.AttributeDict",
            "lightning_fabric.utilities.data.AttributeDict",
            "lightning.fabric.utilities.data.AttributeDict",
        ),
        dict,
    )
    hollow = ("pytorch_lightning.", "lightning.pytorch.", "lightning_fabric.", "lightning.fabric.")

    def recognises(self, content: dict[str, Any]) -> bool:
        """Return whether a Trainer wrote it."""
        marks = {VERSION, "optimizer_states", "loops"} & content.keys()
        return isinstance(content.get("state_dict"), dict) and bool(marks)

    def read(self, path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
        """Return the content of the file, as the installed Lightning would have written it.

        Raises:
            CheckpointError: If it was written by Lightning 1.x or older, and Lightning is not installed.
        """
        changed: list[str] = []
        content = made_plain(content, "", changed)
        lost = [f"{place}: its type (stored as a plain value)" for place in changed]
        content, counted = _upgraded(path, content)
        if not counted:
            lost.append(_NO_COUNTERS)
        hparams = _hparams(content, lost)
        scalers = [key for key, value in content.items() if is_scaler(value)]
        stand = _stand(content, lost) if counted else _stand_by_steps(content)
        if stand is not None and not counted:  # without them today's Lightning begins with the first epoch
            content |= {"loops": loops(stand.counts), "epoch": stand.counts.epoch}
        return ForeignCheckpoint(
            path,
            self.name,
            content,
            weights=content["state_dict"],
            optimizers={str(number): state for number, state in enumerate(content.get("optimizer_states", []))},
            numbered=True,
            schedules=list(content.get("lr_schedulers", [])),
            scaler=content[scalers[0]] if scalers else None,
            stand=stand,
            hparams=hparams,
            written_by=Writer("Lightning", str(content.get(_LEGACY, content[VERSION]))),
            lost=lost,
            private=_private(content),
        )

    def write(self, run: ForeignCheckpoint, target: Path, template: TrainSpec | nn.Module | None) -> list[str]:
        """Write a file that a plain ``Trainer`` resumes: the portable layout is already Lightning's."""
        written = {key: value for key, value in run.content.items() if key != KEY}
        if isinstance(template, nn.Module):  # by the names in a LightningModule; else behind PREFIX
            written["state_dict"] = weights_of(run.content)
        left = list(run.lost)
        io.write(target, written if run.scaler is None else {**written, _SCALER: run.scaler}, left)
        return left

    def write_weights(
        self, weights: dict[str, Any], target: Path, template: TrainSpec | nn.Module | None, lost: list[str]
    ) -> None:
        """Write a file for ``load_from_checkpoint``."""
        before = "" if isinstance(template, nn.Module) else PREFIX
        state = {f"{before}{name}": value for name, value in weights.items()}
        io.write(target, {"state_dict": state, VERSION: LAYOUT_VERSION, "epoch": 0, "global_step": 0}, lost)


def _hparams(content: dict[str, Any], lost: list[str]) -> dict[str, Any]:
    hparams = dict(content.get(_HPARAMS) or {})
    if _INSTANTIATOR in hparams:
        del hparams[_INSTANTIATOR]
        lost.append(f"the hyper-parameter {_INSTANTIATOR!r}, which names code to import (CVE-2026-58659)")
    if _HPARAMS in content:
        content[_HPARAMS] = hparams
    return hparams


def _private(content: Mapping[str, Any]) -> list[str]:
    """Return the data that only the file's own program understands."""
    callbacks = content.get("callbacks") or {}
    told = [f"the state of {name.partition('{')[0]}" for name, state in callbacks.items() if state]
    return told + [
        f"{key!r}, whose meaning is unknown"
        for key, value in content.items()
        if key not in _KEYS and not is_scaler(value)
    ]


def _upgraded(path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return ``content`` as the installed Lightning would have written it, and whether it counts batches."""
    version = str(content.setdefault(VERSION, "0.0.0"))
    migrate = _migration()
    if migrate is not None:
        counted = "loops" in content
        return migrate(content), counted
    if version.partition(".")[0] in ("0", "1"):
        raise CheckpointError(
            f"{path} was written by Lightning {version}; Lightning itself can upgrade it.",
            hint=install_hint("lightning"),
        )
    return content, True


def _migration() -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Return the function that upgrades Lightning's files, if Lightning is installed."""
    try:
        with preserved_rng():  # rich, which Lightning imports, draws a number
            from unitrain_lightning._compat import default_root  # noqa: PLC0415 - it imports Lightning
            from unitrain_lightning.namespace import namespace  # noqa: PLC0415 - so does this
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("unitrain"):
            raise
        return None
    migrate = namespace(default_root()).migrate_checkpoint
    return lambda content: migrate(content)[0]


def _stand(content: dict[str, Any], lost: list[str]) -> TrainingPosition | None:
    loop = (content.get("loops") or {}).get("fit_loop")
    if loop is None:
        return None
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    total, here = batches["total"]["processed"], batches["current"]["processed"]
    steps = int(content["global_step"])
    started, done = epochs["started"], epochs["processed"]
    midway = started > done and not batches.get("is_last_batch")
    behind = done if midway else started
    if done != started and not midway:
        lost.append("the very end of its epoch: a schedule that monitors a metric has not stepped yet")
    return TrainingPosition(behind, here, midway, total, steps, min(steps, total), None if midway else here)


def _stand_by_steps(content: dict[str, Any]) -> TrainingPosition | None:
    """Return where the run stood if each batch was a step, in a file without counts of batches."""
    loop = (content.get("loops") or {}).get("fit_loop")
    if loop is None:
        return None
    done, steps = loop["epoch_progress"]["current"]["completed"], int(content["global_step"])
    length = steps // done if done and steps % done == 0 else None
    return TrainingPosition(
        done, length or 0, midway=False, batches=steps, steps=steps, stepped=steps, epoch_length=length
    )
