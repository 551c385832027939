"""From a portable checkpoint to what others read: plain Lightning, plain Ignite, safetensors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from unitrain.checkpoint import io
from unitrain.checkpoint.snapshot import KEY, load_weights, own_part, weights_of
from unitrain.checkpoint.weights import SUFFIX, packed
from unitrain.errors import CheckpointError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

Target: TypeAlias = Literal["lightning", "ignite", "safetensors"]

_SCALER = "MixedPrecision"
"""The key by which Lightning's plugin for mixed precision finds its scaler."""

_OWN = ("History", "Tracking")
"""Callbacks that are in every run; what they keep is of use to unitrain only."""


def convert_checkpoint(src: str | Path, dst: str | Path, to: Target) -> list[str]:
    """Write the checkpoint ``src`` to ``dst`` in the form that another program reads.

    ``"lightning"`` is the file without its ``unitrain`` key. ``"ignite"`` is what ``ignite.handlers.Checkpoint``
    writes: ``"model"``, ``"optimizer"`` (or each optimizer by its name), ``"lr_scheduler"`` (of several: with the
    optimizer's name behind it, ``"lr_scheduler_gen"``, or its number), ``"scaler"`` with float16, and ``"trainer"``.
    ``"safetensors"`` is the weights alone; tied ones are written once and are tied again by ``unitrain.load_weights``.

    Args:
        src: A checkpoint that unitrain wrote; for ``"safetensors"`` also one of plain Lightning.
        dst: The file to write, all or nothing.
        to: ``"lightning"``, ``"ignite"`` or ``"safetensors"``.

    Returns:
        What the new file cannot carry.

    Raises:
        ConfigError: If ``to`` is unknown, or ``dst`` is ``src``.
        CheckpointError: If ``src`` cannot be read or ``dst`` cannot be written.
    """
    source, target = Path(src), Path(dst)
    if to not in _WRITERS:
        raise ConfigError(f"convert_checkpoint(to={to!r}) is unknown.", hint=did_you_mean(to, get_args(Target)))
    if source.resolve() == target.resolve() or (target.exists() and source.exists() and target.samefile(source)):
        raise ConfigError(
            f"convert_checkpoint would write {target} over its own source.", hint="give another path as dst."
        )
    return _WRITERS[to](source, target)


def _to_safetensors(source: Path, target: Path) -> list[str]:
    content = packed(load_weights(source))
    io.write_by(target, lambda file: file.write(content))
    return ["everything but the weights"]


def _to_lightning(source: Path, target: Path) -> list[str]:
    content, own = _portable(source)
    del content[KEY]
    scaler = own["progress"]["scaler"]
    io.write(target, content if scaler is None else {**content, _SCALER: scaler})
    return _left(own)


def _to_ignite(source: Path, target: Path) -> list[str]:
    content, own = _portable(source)
    names = own["names"]
    parts = [("model", weights_of(content))]
    parts += zip(names["optimizers"], content["optimizer_states"], strict=True)
    parts += zip(_schedule_names(names["schedules"]), content["lr_schedulers"], strict=True)
    if own["progress"]["scaler"] is not None:
        parts.append(("scaler", own["progress"]["scaler"]))
    parts.append(("trainer", _trainer(source, content, own)))
    clashing = {name for name, _ in parts if [key for key, _ in parts].count(name) > 1}
    if clashing:
        raise CheckpointError(
            f"{source}: an optimizer is named {', '.join(sorted(clashing))}, as another part of Ignite's file.",
            hint="name the submodule and its optimizer otherwise.",
        )
    io.write(target, dict(parts))
    left = _left(own)
    if own["progress"]["midway"]:
        warnings.warn(
            f"{target} is from the midst of an epoch, and Ignite's form lacks {', '.join(left)}.", stacklevel=3
        )
    return left


_WRITERS: dict[str, Callable[[Path, Path], list[str]]] = {
    "lightning": _to_lightning,
    "ignite": _to_ignite,
    "safetensors": _to_safetensors,
}


def _portable(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if source.suffix == SUFFIX:
        raise CheckpointError(f"{source} holds weights only.", hint="give a checkpoint that unitrain wrote.")
    content = io.read(source)
    return content, own_part(source, content)


def _schedule_names(optimizers: list[str]) -> list[str]:
    """Return the keys of the schedules of ``optimizers``."""
    if len(optimizers) == 1:
        return ["lr_scheduler"]
    unique = len(set(optimizers)) == len(optimizers)
    return [f"lr_scheduler_{name if unique else number}" for number, name in enumerate(optimizers)]


def _trainer(source: Path, content: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the Ignite engine: the iteration, or the epoch where the epochs differ in length."""
    progress, planned = own["progress"], own.get("run", {})
    done = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    whole, midway = progress["epochs_done"], progress["midway"]
    length = planned.get("epoch_length") or (None if midway else progress["in_epoch"])
    if not length:
        raise CheckpointError(
            f"{source} is from the midst of an epoch of unknown length, which an Ignite engine cannot take up.",
            hint="convert a checkpoint from the end of an epoch.",
        )
    exact = done == whole * length + (progress["in_epoch"] if midway else 0)
    where = {"iteration": done} if exact else {"epoch": whole}
    return {"epoch_length": length, **where, "max_epochs": planned.get("max_epochs")}


def _left(own: dict[str, Any]) -> list[str]:
    """Return what neither framework's form has a place for."""
    progress = own["progress"]
    found = {
        "the states of the random number generators": True,
        "the states of callbacks": any(state for name, state in own["callbacks"].items() if name not in _OWN),
        "the position in the epoch's data": progress["midway"],
        "what the epoch had measured": progress["midway"],
        "the pending gradients": bool(progress["gradients"]),
    }
    return [what for what, there in found.items() if there]
