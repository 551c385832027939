"""Matches the names in a file with the names of a model, which may have different prefixes.

Lightning puts the name of an attribute before each name, ``DistributedDataParallel`` puts ``module.`` and
``torch.compile`` puts ``_orig_mod.``. The prefix is found by comparing with a model, never assumed; if two prefixes are
possible, the error lists the candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_WRAPPERS = ("module", "_orig_mod")
_COMPILED = "_orig_mod"
_MANY = 4
"""The maximum number of names of each kind in a message."""


def canonical(name: str) -> str:
    """Return ``name`` without what wrappers put into it."""
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Return what each of ``names`` is without a wrapper's words, where no model tells: ``module.`` only before all."""
    plain = {name: ".".join(word for word in name.split(".") if word != _COMPILED) for name in names}
    if plain and all(name.startswith("module.") for name in plain.values()):
        return {name: one.removeprefix("module.") for name, one in plain.items()}
    return plain


def prefixes(names: Iterable[str]) -> list[str]:
    """Return the possible prefixes of ``names``: none, and the first word if all have the same."""
    first = {name.partition(".")[0] for name in names}
    alone = len(first) == 1 and all("." in name for name in names)
    return ["", f"{first.pop()}."] if alone else [""]


def chosen(path: Path, names: Iterable[str], part: str) -> dict[str, str]:
    """Return the names in the file by the names of the model with the prefix ``part``.

    Raises:
        CheckpointError: If no name has that prefix.
    """
    plain = unwrapped(names)
    before = f"{part.removesuffix('.')}." if part else ""
    found = {one.removeprefix(before): name for name, one in plain.items() if one.startswith(before)}
    if not found:
        heads = sorted({one.partition(".")[0] for one in plain.values()})
        raise CheckpointError(
            f"{path}: no name starts with part={part!r}; they start with {', '.join(heads)}.",
            hint="pass the prefix of the model's names.",
        )
    return unwrapped_back(found)


def unwrapped_back(found: dict[str, str]) -> dict[str, str]:
    """Return ``found`` by its keys without a wrapper's words."""
    return {plain: found[name] for name, plain in unwrapped(found).items()}


def without_model(path: Path, names: Iterable[str], *, certain: bool) -> dict[str, str]:
    """Return the names in the file by the model's names, where there is no model to compare with.

    Args:
        path: The file, for messages.
        names: The names in it.
        certain: Whether they are known to be a model's own names.

    Raises:
        CheckpointError: If all have the same first word, which may be an attribute's name or belong to the model.
    """
    found = unwrapped_back({name: name for name in names})
    candidates = prefixes(found)
    if certain or len(candidates) == 1:
        return found
    word = candidates[1].removesuffix(".")
    raise CheckpointError(
        f"{path}: all names start with {word!r}, which may be the LightningModule's attribute for the model or the"
        f" model's own first submodule.",
        hint=f"pass template=model (or a TrainSpec), part={word!r} (to strip it) or part='' (to keep it).",
    )


def matched(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], part: str | None) -> dict[str, str]:
    """Return the names in the file by the names of a model.

    Args:
        path: The file, for messages.
        found: The file's values by their names.
        wanted: The model's values by their names.
        part: Prefix of the names, if the caller knows it.

    Raises:
        CheckpointError: If the file is of another model, or fits it in several ways.
    """
    theirs, ours = _by_canonical(path, found), _by_canonical(path, wanted)
    candidates = [one for one in _candidates(theirs, ours) if part is None or one == _before(part)]
    fitting = [one for one in candidates if not _differing(one, theirs, ours, found, wanted)]
    if len(fitting) > 1:
        raise CheckpointError(
            f"{path} contains several matching models: the names after {', '.join(map(repr, fitting))}.",
            hint=f"choose one, for example part={fitting[0].removesuffix('.')!r}.",
        )
    if not fitting:
        raise _other_model(path, _nearest(candidates or _heads(theirs), theirs, ours), theirs, ours, found, wanted)
    before = fitting[0]
    return {name: theirs[_joined(before, key)] for key, name in ours.items()}


def _before(part: str) -> str:
    return f"{canonical(part)}." if part else ""


def _by_canonical(path: Path, names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        key = canonical(name)
        if key in found:
            raise CheckpointError(
                f"{path}: {name!r} and {found[key]!r} only differ in a wrapper's prefix.",
                hint="keep only one of them.",
            )
        found[key] = name
    return found


def _joined(before: str, key: str) -> str:
    """Return the file's name for the model's; ``before`` may also be what the model's names have more (``"-net."``)."""
    return key.removeprefix(before[1:]) if before.startswith("-") else f"{before}{key}"


def _candidates(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Return the possible prefixes of all model names in the file, or of all file names in the model."""
    more = [before for before in _heads_of(theirs, ours) if all(f"{before}{key}" in theirs for key in ours)]
    if more:
        return more
    less = [before for before in _heads_of(ours, theirs) if {f"{before}{key}" for key in theirs} == ours.keys()]
    return [f"-{before}" for before in less]


def _heads_of(longer: Iterable[str], shorter: Iterable[str]) -> list[str]:
    first = next(iter(shorter), None)
    if first is None:
        return []
    heads = [name.removesuffix(first) for name in longer if name == first or name.endswith(f".{first}")]
    return sorted(set(heads))


def _heads(names: Iterable[str]) -> list[str]:
    words = [name.split(".") for name in names]
    return sorted({"", *(".".join(one[:depth]) + "." for one in words for depth in range(1, len(one)))})


def _nearest(candidates: list[str], theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    return max(candidates, key=lambda one: sum(_joined(one, key) in theirs for key in ours))


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _differing(
    before: str, theirs: Mapping[str, str], ours: Mapping[str, str], found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> list[str]:
    """Return what does not fit behind ``before``: names that are missing or too many, and other shapes."""
    here = {_joined(before, key): name for key, name in ours.items()}
    told = {
        "missing": [name for key, name in here.items() if key not in theirs],
        "unexpected": [name for key, name in theirs.items() if key.startswith(before) and key not in here]
        if not before.startswith("-")
        else [],
        "of another shape": [
            f"{name} ({_shape(found[theirs[key]])} in the file, {_shape(wanted[name])} in the model)"
            for key, name in here.items()
            if key in theirs and _shape(found[theirs[key]]) != _shape(wanted[name])
        ],
    }
    return [f"{what}: {_some(names)}" for what, names in told.items() if names]


def _some(names: list[str]) -> str:
    more = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {more} more" if more > 0 else "")


def _other_model(path: Path, before: str, *compared: Any) -> CheckpointError:
    where = f" behind {before!r}" if before and not before.startswith("-") else ""
    told = "; ".join(_differing(before, *compared)) or "all of it"
    return CheckpointError(
        f"{path} does not match the model{where}; {told}.",
        hint="build the model as it was when the checkpoint was written.",
    )
