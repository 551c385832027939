"""Converts checkpoints between known formats: unitrain, Lightning, Ignite, safetensors and others."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import nn

from unitrain.backends.registry import require_codec
from unitrain.checkpoint import io
from unitrain.checkpoint.convert.codecs import by_target, take
from unitrain.checkpoint.convert.own_forms import PORTABLE, WEIGHTS, run_of
from unitrain.checkpoint.convert.to_portable import assembled, names_of, renamed
from unitrain.checkpoint.integrity import is_folder
from unitrain.checkpoint.layout import PREFIX
from unitrain.checkpoint.model_weights import weights_of
from unitrain.checkpoint.restore import own_part
from unitrain.errors import ConfigError, complete_call, did_you_mean
from unitrain.spec import TrainSpec
from unitrain.utilities.files import refuse_existing, user_file

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.checkpoint.convert.foreign_checkpoint import CheckpointCodec, ForeignCheckpoint
    from unitrain.checkpoint.convert.to_portable import Template

Target: TypeAlias = Literal["lightning", "ignite", "safetensors", "portable"] | str  # noqa: PYI051 - editors offer them
"""Who is to read a file: one of these, or the name of another package's form."""


@complete_call(ConfigError, 'unitrain.convert_checkpoint("last.ckpt", "new.ckpt", to="lightning")')
def convert_checkpoint(
    src: str | Path,
    dst: str | Path,
    to: Target,
    *,
    template: Template | None = None,
    part: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Convert the checkpoint ``src`` to another program's format and write it to ``dst``.

    ``src`` is a file or folder of unitrain, a file of any Lightning release, of Ignite's ``Checkpoint`` (``{name:
    state_dict}``, or a bare one), weights saved by ``torch.save``, or a safetensors file. Code named in the file is
    never run.

    ``"portable"`` is unitrain's own format, which ``UnifiedTrainer.fit(ckpt_path=)`` resumes on every backend.
    ``"lightning"`` is read by a plain ``Trainer``; a file of Lightning's own is upgraded. ``"ignite"`` is the format of
    ``ignite.handlers.Checkpoint``: ``"model"``, ``"optimizer"`` (or each optimizer by its name), ``"lr_scheduler"`` (of
    several: with the optimizer's name behind it, ``"lr_scheduler_gen"``, or its number), ``"scaler"`` with float16, and
    ``"trainer"``. ``"safetensors"`` is the weights alone; tied ones are written once and are tied again by
    ``unitrain.load_weights``.

    Args:
        src: The checkpoint to read.
        dst: The file to write, atomically.
        to: ``"portable"``, ``"lightning"``, ``"ignite"``, ``"safetensors"``, or a format that another package registers
            (see docs/backends.md).
        template: What the new file is for: the TrainSpec, which also identifies the states of optimizers and schedules;
            or the module, for ``"lightning"`` the LightningModule. Names, shapes and the optimizer's groups are checked
            against it. Without a template, names are kept where that is unambiguous.
        part: Prefix of the model's names in the file (``"net"``, ``"ema_model"``), where several fit.
        overwrite: Whether to replace an existing file ``dst``.

    Returns:
        Descriptions of what the new format cannot store.

    Raises:
        ConfigError: If ``to`` or ``template`` is invalid, ``dst`` is ``src``, or ``dst`` already exists.
        CheckpointError: If ``src`` cannot be read, is of another model or is ambiguous, or ``dst`` cannot be written.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        >>> trainer.save_checkpoint("run.ckpt")
        >>> convert_checkpoint("run.ckpt", "weights.safetensors", to="safetensors")  # what the new file cannot hold
        [...]
    """
    source, target = user_file(src, "src", ConfigError), user_file(dst, "dst", ConfigError)
    codec = _checked(source, target, to, template)
    taken = take(source)
    refuse_existing(
        target,
        ConfigError,
        overwrite=overwrite,
        hint="use overwrite=True (--overwrite) to replace it, or another path.",
    )
    left: list[str] = []
    if taken.form == PORTABLE.name:
        taken = _renamed_portable(taken, template, part)
    elif codec.rewrites and to == taken.form:
        return _write_upgraded(codec, taken, target, template, part)
    elif codec is WEIGHTS or not (taken.optimizers or codec is PORTABLE):
        return _write_weights(codec, taken, target, template, part)
    else:
        content, left = assembled(taken, template, part)
        taken = replace(taken, content=content)
    found = codec.write(run_of(taken), target, template)
    return list(dict.fromkeys([*found, *left]))


def _checked(source: Path, target: Path, to: str, template: object) -> CheckpointCodec:
    known = by_target()
    if to not in known:
        require_codec(to)
        raise ConfigError(f"convert_checkpoint(to={to!r}): unknown format.", hint=did_you_mean(to, known))
    if template is not None and not isinstance(template, (TrainSpec, nn.Module)):
        raise ConfigError(
            f"convert_checkpoint(template=) must be a TrainSpec or a module, got {template!r}.",
            hint="create an instance first." if isinstance(template, type) else "template=spec",
        )
    if _same(source, target):
        raise ConfigError(
            f"convert_checkpoint would write {target} over its own source.", hint="use another path as dst."
        )
    if is_folder(target):
        raise ConfigError(f"convert_checkpoint(dst={str(target)!r}) is a folder.", hint="pass the path of a file.")
    return known[to]


def _same(source: Path, target: Path) -> bool:
    try:
        # Path.resolve() fails where links go in a circle
        return os.path.realpath(source) == os.path.realpath(target) or source.samefile(target)
    except (OSError, ValueError):  # one of them is not there
        return False


def _renamed_portable(taken: ForeignCheckpoint, template: Template | None, part: str | None) -> ForeignCheckpoint:
    """Return a portable content unchanged, or with the names of ``template``, which it is compared with."""
    own_part(taken.path, taken.content)
    if part is not None:
        raise ConfigError(
            f"part={part!r}: {taken.path} is a unitrain checkpoint with a single model.", hint="remove part=."
        )
    if template is None:
        return taken
    weights = weights_of(taken.content)
    of_model = replace(taken, weights=weights, models=())
    found, _ = renamed(of_model, names_of(of_model, template, None))
    return replace(
        taken, content={**taken.content, "state_dict": {f"{PREFIX}{key}": one for key, one in found.items()}}
    )


def _write_weights(
    codec: CheckpointCodec, taken: ForeignCheckpoint, target: Path, template: Template | None, part: str | None
) -> list[str]:
    """Write the weights of another program's file: all that is wanted of it, or all that it holds."""
    weights, left = renamed(taken, names_of(taken, template, part))
    codec.write_weights(weights, target, template, left)
    if codec is WEIGHTS:
        return left
    return [
        *left,
        *taken.lost,
        "everything but the weights: the file contains no optimizer, so training cannot resume from it",
    ]


def _write_upgraded(
    codec: CheckpointCodec, taken: ForeignCheckpoint, target: Path, template: Template | None, part: str | None
) -> list[str]:
    """Write a file as today's release of its own program would, under the same names."""
    if template is not None or part is not None:
        names = names_of(taken, template, part)
        if any(name != theirs for name, theirs in names.items()) or len(names) != len(taken.weights):
            raise ConfigError(
                f"{taken.path} already is {codec.description}; a file for another module would lack the rest.",
                hint=f'to="portable" with this template, and from there to="{taken.form}".',
            )
    left = list(taken.lost)
    io.write(target, taken.content, left)
    return left
