"""The known checkpoint formats: unitrain's own, and those that packages register by entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from unitrain.backends.registry import checkpoint_codecs
from unitrain.checkpoint.convert import safe_reading
from unitrain.checkpoint.convert.foreign_checkpoint import well_formed
from unitrain.checkpoint.convert.own_forms import PORTABLE, WEIGHTS
from unitrain.errors import CheckpointError
from unitrain.utilities.plugins import CHECKPOINTS, entries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unitrain.checkpoint.convert.foreign_checkpoint import CheckpointCodec, ForeignCheckpoint


def foreign_codecs() -> list[CheckpointCodec]:
    """Return the codecs of other programs' formats, with catch-all codecs last."""
    found = cast("Sequence[CheckpointCodec]", checkpoint_codecs())
    return sorted(found, key=lambda one: (one.catch_all, one.name))


def by_form() -> dict[str, CheckpointCodec]:
    """Return all codecs by name, in the order in which they are tried."""
    foreign = foreign_codecs()
    specific, rest = ([one for one in foreign if one.catch_all is last] for last in (False, True))
    return {one.name: one for one in (PORTABLE, *specific, WEIGHTS, *rest)}


def by_target() -> dict[str, CheckpointCodec]:
    """Return the codecs by their names in ``convert_checkpoint(to=)``."""
    return {**{one.name: one for one in foreign_codecs()}, "safetensors": WEIGHTS, PORTABLE.name: PORTABLE}


def targets() -> tuple[str, ...]:
    """Return the values of ``convert_checkpoint(to=)``, including registered codecs that cannot be loaded."""
    return tuple(dict.fromkeys([*by_target(), *entries(CHECKPOINTS)]))


def take(path: Path) -> ForeignCheckpoint:
    """Return the content of the file at ``path``.

    Raises:
        CheckpointError: If it cannot be read, or its format is unknown.
    """
    known = by_form()
    stand_ins = {name: one for codec in known.values() for name, one in codec.stand_ins.items()}
    hollow = tuple(prefix for codec in known.values() for prefix in codec.hollow)
    given = safe_reading.read(path, stand_ins, hollow)
    codec = known[form_of(path, given)]
    with well_formed(path, codec.name):
        return codec.read(path, given)


def form_of(path: Path, content: dict[str, Any]) -> str:
    """Return the name of the format of ``content``.

    Raises:
        CheckpointError: If the format is unknown.
    """
    known = by_form()
    for name, codec in known.items():
        if codec.recognises(content):
            return name
    keys = ", ".join(map(repr, list(content)[:12])) or "nothing"
    raise CheckpointError(
        f"{path}: unrecognised checkpoint format; top-level keys: {keys}.",
        hint=f"supported: {'; '.join(one.description for one in known.values())}. Packages can add formats with an"
        f" entry point"
        f" in {CHECKPOINTS!r}.",
    )
