"""From a checkpoint of any known form to one that another program reads: plain Lightning, plain Ignite, unitrain."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from torch import nn

from unitrain.checkpoint import io
from unitrain.checkpoint.capture import own_part, weights_of
from unitrain.checkpoint.convert.foreign_checkpoint import VERSION, ForeignCheckpoint, take
from unitrain.checkpoint.convert.to_portable import assembled, names_of, renamed
from unitrain.checkpoint.integrity import is_folder
from unitrain.checkpoint.layout import KEY, LIGHTNING_VERSION, PREFIX
from unitrain.checkpoint.weights import packed
from unitrain.errors import CheckpointError, ConfigError, did_you_mean
from unitrain.spec import TrainSpec
from unitrain.utilities.files import refuse_existing, user_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unitrain.checkpoint.convert.to_portable import Template

Target: TypeAlias = Literal["lightning", "ignite", "safetensors", "portable"]

_SCALER = "MixedPrecision"
"""The key by which Lightning's plugin for mixed precision finds its scaler."""

_OWN = ("History", "Tracking")
"""Callbacks that are in every run; what they keep is of use to unitrain only."""

_ANEW = "the states of the random number generators: what comes next, as the order of a shuffled epoch, is drawn anew"


def convert_checkpoint(
    src: str | Path,
    dst: str | Path,
    to: Target,
    *,
    template: Template | None = None,
    part: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write the checkpoint ``src`` to ``dst`` in the form that another program reads.

    ``src`` is a file of unitrain's (or its folder), of any Lightning's, of Ignite's ``Checkpoint``
    (``{name: state_dict}``, or a bare one), weights that ``torch.save`` wrote, or a safetensors file. No code that it
    names is run.

    ``"portable"`` is unitrain's own, which ``UnifiedTrainer.fit(ckpt_path=)`` goes on with on every backend.
    ``"lightning"`` is what a plain ``Trainer`` reads; a file of Lightning's own is brought up to date. ``"ignite"`` is
    what ``ignite.handlers.Checkpoint`` writes: ``"model"``, ``"optimizer"`` (or each optimizer by its name),
    ``"lr_scheduler"`` (of several: with the optimizer's name behind it, ``"lr_scheduler_gen"``, or its number),
    ``"scaler"`` with float16, and ``"trainer"``. ``"safetensors"`` is the weights alone; tied ones are written once and
    are tied again by ``unitrain.load_weights``.

    Args:
        src: The checkpoint to read.
        dst: The file to write, all or nothing.
        to: ``"portable"``, ``"lightning"``, ``"ignite"`` or ``"safetensors"``.
        template: What the new file is for: the TrainSpec, which also tells whose the states of optimizers and schedules
            are; or the module, for ``"lightning"`` the LightningModule. The names, the shapes and the groups of the
            optimizer are compared with it. Without one, names are kept as they are where that cannot be wrong.
        part: What stands before the names of the model in the file (``"net"``, ``"ema_model"``), where several fit.
        overwrite: Whether a file ``dst`` may be replaced.

    Returns:
        What the new file cannot carry.

    Raises:
        ConfigError: If ``to`` or ``template`` is invalid, ``dst`` is ``src``, or there is a ``dst`` already.
        CheckpointError: If ``src`` cannot be read, is of another model or can be meant in several ways, or ``dst``
            cannot be written.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> trainer.save_checkpoint("run.ckpt")
        >>> convert_checkpoint("run.ckpt", "weights.safetensors", to="safetensors")  # what the new file cannot hold
        [...]
    """
    source, target = user_file(src, "src", ConfigError), user_file(dst, "dst", ConfigError)
    _check(source, target, to, template)
    taken = take(source)
    refuse_existing(
        target, ConfigError, overwrite=overwrite, hint="overwrite=True (--overwrite) replaces it; or give another path."
    )
    left: list[str] = []
    if taken.form == "portable":
        taken = _renamed_portable(taken, template, part)
    elif to == taken.form == "lightning":
        return _write_upgraded(taken, target, template, part)
    elif to == "safetensors" or not (taken.optimizers or to == "portable"):
        return _write_weights(taken, target, to, template, part)
    else:
        content, left = assembled(taken, template, part)
        taken = replace(taken, content=content)
    found = _WRITERS[to](taken.path, target, taken.content, template)
    return list(dict.fromkeys([*found, *left]))


def _check(source: Path, target: Path, to: str, template: object) -> None:
    if to not in _WRITERS:
        raise ConfigError(f"convert_checkpoint(to={to!r}) is unknown.", hint=did_you_mean(to, get_args(Target)))
    if template is not None and not isinstance(template, (TrainSpec, nn.Module)):
        raise ConfigError(
            f"convert_checkpoint(template=) must be a TrainSpec or a module, got {template!r}.",
            hint="make an instance first." if isinstance(template, type) else "template=spec",
        )
    if _same(source, target):
        raise ConfigError(
            f"convert_checkpoint would write {target} over its own source.", hint="give another path as dst."
        )
    if is_folder(target):
        raise ConfigError(f"convert_checkpoint(dst={str(target)!r}) is a folder.", hint="give the path of a file.")


def _same(source: Path, target: Path) -> bool:
    try:
        # Path.resolve() fails where links go in a circle
        return os.path.realpath(source) == os.path.realpath(target) or source.samefile(target)
    except (OSError, ValueError):  # one of them is not there
        return False


def _renamed_portable(taken: ForeignCheckpoint, template: Template | None, part: str | None) -> ForeignCheckpoint:
    """Return a portable content as it is, or with the names of ``template``, which it is compared with."""
    own_part(taken.path, taken.content)
    if part is not None:
        raise ConfigError(f"part={part!r}: {taken.path} is unitrain's, and holds one model.", hint="leave part= out.")
    if template is None:
        return taken
    weights = weights_of(taken.content)
    of_model = replace(taken, weights=weights, models=())
    found, _ = renamed(of_model, names_of(of_model, template, None))
    return replace(
        taken, content={**taken.content, "state_dict": {f"{PREFIX}{key}": one for key, one in found.items()}}
    )


def _module_names(content: dict[str, Any], template: Template | None) -> dict[str, Any]:
    """Return the weights by the names in a LightningModule: those of the one that is given, else behind ``model.``."""
    return weights_of(content) if isinstance(template, nn.Module) else content["state_dict"]


def _write_weights(
    taken: ForeignCheckpoint, target: Path, to: Target, template: Template | None, part: str | None
) -> list[str]:
    """Write the weights of another program's file: all that is wanted of it, or all that it holds."""
    weights, left = renamed(taken, names_of(taken, template, part))
    if to == "safetensors":
        _pack(target, weights)
        return [*left, "everything but the weights"]
    if to == "lightning":
        before = "" if isinstance(template, nn.Module) else PREFIX
        state = {f"{before}{name}": value for name, value in weights.items()}
        io.write(target, {"state_dict": state, VERSION: LIGHTNING_VERSION, "epoch": 0, "global_step": 0}, left)
    else:
        io.write(target, weights, left)
    return [*left, *taken.lost, "everything but the weights: the file holds no optimizer, so nobody can go on with it"]


def _write_upgraded(taken: ForeignCheckpoint, target: Path, template: Template | None, part: str | None) -> list[str]:
    """Write a file of Lightning's as today's Lightning would, under the same names."""
    if template is not None or part is not None:
        names = names_of(taken, template, part)
        if any(name != theirs for name, theirs in names.items()) or len(names) != len(taken.weights):
            raise ConfigError(
                f"{taken.path} is Lightning's already; a file for another module would lack the rest of it.",
                hint='to="portable" with this template, and from there to="lightning".',
            )
    left = list(taken.lost)
    io.write(target, taken.content, left)
    return left


def _pack(target: Path, weights: dict[str, Any]) -> None:
    content = packed(weights)
    io.write_by(target, lambda file: file.write(content))


def _to_safetensors(_: Path, target: Path, content: dict[str, Any], __: Template | None) -> list[str]:
    _pack(target, weights_of(content))
    return ["everything but the weights"]


def _to_portable(_: Path, target: Path, content: dict[str, Any], __: Template | None) -> list[str]:
    io.write(target, content)
    progress = content[KEY]["progress"]
    if progress["rng"] is not None:
        return []
    here = [f"the order of the running epoch's data: {progress['in_epoch']} batches of a new order are left out"]
    here += ["the pending gradients, if gradients were accumulated", "what the epoch had measured"]
    return [_ANEW, *(here if progress["midway"] else [])]


def _to_lightning(_: Path, target: Path, content: dict[str, Any], template: Template | None) -> list[str]:
    own = content[KEY]
    written = {key: value for key, value in content.items() if key != KEY}
    written["state_dict"] = _module_names(content, template)
    scaler = own["progress"]["scaler"]
    left = _left(own)
    io.write(target, written if scaler is None else {**written, _SCALER: scaler}, left)
    return left


def _to_ignite(source: Path, target: Path, content: dict[str, Any], _: Template | None) -> list[str]:
    own = content[KEY]
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
    left = _left(own)
    io.write(target, dict(parts), left)
    if own.get("run", {}).get("max_epochs") is None:
        left.append("the number of epochs: say it, as in run(data, max_epochs=10)")
    if own["progress"]["midway"]:
        warnings.warn(
            f"{target} is from the midst of an epoch, and Ignite's form lacks {', '.join(left)}.", stacklevel=3
        )
    return left


_WRITERS: dict[str, Callable[[Path, Path, dict[str, Any], Template | None], list[str]]] = {
    "lightning": _to_lightning,
    "ignite": _to_ignite,
    "safetensors": _to_safetensors,
    "portable": _to_portable,
}


def _schedule_names(optimizers: list[str]) -> list[str]:
    """Return the keys of the schedules of ``optimizers``."""
    if len(optimizers) == 1:
        return ["lr_scheduler"]
    unique = len(set(optimizers)) == len(optimizers)
    return [f"lr_scheduler_{name if unique else number}" for number, name in enumerate(optimizers)]


def _trainer(source: Path, content: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the Ignite engine: the iteration, or the epoch where the epochs differ in length.

    Without a number of epochs Ignite would begin anew; where none is known, it goes on for one.
    """
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
    return {"epoch_length": length, **where, "max_epochs": planned.get("max_epochs") or whole + 1}


def _left(own: dict[str, Any]) -> list[str]:
    """Return what neither framework's form has a place for."""
    progress = own["progress"]
    found = {
        "the states of the random number generators": True,
        "the hyper-parameters": bool(own.get("hparams")),
        "the states of callbacks": any(state for name, state in own["callbacks"].items() if name not in _OWN),
        "the position in the epoch's data": progress["midway"],
        "what the epoch had measured": progress["midway"],
        "the pending gradients": bool(progress["gradients"]),
    }
    return [what for what, there in found.items() if there]
