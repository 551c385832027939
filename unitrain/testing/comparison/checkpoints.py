"""Compares two checkpoints of any program: weights, optimizer states and counters; other keys are named."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from unitrain.checkpoint.convert.codecs import take
from unitrain.checkpoint.convert.own_forms import PORTABLE, run_of
from unitrain.errors import ConfigError
from unitrain.testing.comparison.bits import digest, gap
from unitrain.testing.comparison.comparison import Comparison
from unitrain.testing.comparison.diagnosis import with_gap
from unitrain.testing.comparison.difference import Difference
from unitrain.testing.comparison.leaves import leaves
from unitrain.testing.comparison.outcome import Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from unitrain.checkpoint.convert.foreign_checkpoint import ForeignCheckpoint

WEIGHTS, OPTIMIZERS, COUNTERS = "weights", "optimizer states", "counters"
_COVERED = frozenset({"state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "loops"})
"""Keys of a checkpoint whose content is in one of the parts."""
_FEW = 8


def compare_files(left: Path, right: Path) -> Comparison:
    """Return the comparison of two checkpoints.

    Raises:
        CheckpointError: If one cannot be read.
        ConfigError: If they have no part in common.
    """
    taken = _taken(left), _taken(right)
    names = _names(left, right)
    first, second = _parts(taken[0]), _parts(taken[1])
    compared = [part for part in first if part in second]
    if not compared:
        raise ConfigError(
            f"{names[0]} and {names[1]} have no part in common:"
            f" {', '.join(first) or 'nothing'}; {', '.join(second) or 'nothing'}.",
            hint="compare two checkpoints that hold weights.",
        )
    notes = [
        f"only {name} has {part}: not compared."
        for name, own, other in ((names[0], first, second), (names[1], second, first))
        for part in own
        if part not in other
    ]
    found = next((one for part in compared if (one := _difference(names, part, first[part], second[part]))), None)
    return Comparison(
        sides=tuple(Side(name=name) for name in names),
        differences=() if found is None else (found,),
        compared=tuple(compared),
        notes=(*notes, *_others(names, taken)),
    )


def _taken(path: Path) -> ForeignCheckpoint:
    found = take(path)
    return run_of(found) if found.form == PORTABLE.name else found


def _names(left: Path, right: Path) -> tuple[str, str]:
    """Return what the files are called: their names, or their paths if these are the same."""
    return (str(left), str(right)) if left.name == right.name and left != right else (left.name, right.name)


def _parts(taken: ForeignCheckpoint) -> dict[str, dict[str, Any]]:
    """Return what a file has of each part, as values by name."""
    counters: dict[str, Any] = {}
    if taken.stand is not None:
        told = asdict(taken.stand)
        counters = {name: told[name] for name in ("epochs_done", "in_epoch", "batches", "steps")}
    counters |= dict(leaves(list(taken.schedules), "lr_schedulers")) if taken.schedules else {}
    states = {f"optimizer {number}": one for number, one in enumerate(taken.optimizers.values())}
    if len(states) == 1:
        states = {"optimizer": next(iter(states.values()))}
    optimizers = dict(leaf for name, one in states.items() for leaf in leaves(one, name))
    found = {WEIGHTS: dict(_flat(taken.weights)), OPTIMIZERS: optimizers, COUNTERS: counters}
    return {part: values for part, values in found.items() if values}


def _flat(weights: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return (leaf for name, value in weights.items() for leaf in leaves(value, name))


def _difference(
    names: tuple[str, str], part: str, left: Mapping[str, Any], right: Mapping[str, Any]
) -> Difference | None:
    """Return the first difference of a part."""
    base = Difference(sides=names, step=None, phase=part, kind=part, cause=f"the {part} differ")
    for name, value in left.items():
        if name in right:
            one = gap(value, right[name])
            if one is not None:
                return with_gap(base, name, value, one)
    lone = [name for name in left if name not in right], [name for name in right if name not in left]
    if not any(lone):
        return None
    told = [_listed(some) if some else "nothing" for some in lone]
    return replace(
        base,
        tensor=next(iter((*lone[0], *lone[1]))),
        values=(f"only here: {told[0]}", f"only here: {told[1]}"),
        cause=f"the {part} have other names; those of the same name are equal",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def _others(names: tuple[str, str], taken: tuple[ForeignCheckpoint, ForeignCheckpoint]) -> list[str]:
    """Return notes about keys that are not compared."""
    first, second = (_digests(one) for one in taken)
    told = {
        f"keys only in {names[0]}": [key for key in first if key not in second],
        f"keys only in {names[1]}": [key for key in second if key not in first],
        "other keys that differ": [key for key, one in first.items() if second.get(key, one) != one],
    }
    return [f"{text}: {_listed(keys)}." for text, keys in told.items() if keys]


def _digests(taken: ForeignCheckpoint) -> dict[str, str]:
    """Return digests of what is in no part, by key; of unitrain's own key, by its keys."""
    if taken.weights is taken.content:
        return {}
    found: dict[str, str] = {}
    for key, value in taken.content.items():
        if key in _COVERED or value is taken.weights or any(value is one for one in taken.optimizers.values()):
            continue
        inner = value.items() if key == "unitrain" and isinstance(value, dict) else ()
        found |= {f"{key}.{name}": digest(leaves(one)) for name, one in inner} or {str(key): digest(leaves(value))}
    return found
