"""Files that other programs wrote, read without running anything that is in them.

``weights_only`` knows tensors and a few containers. Old files of Lightning hold some more that do no harm: an
``argparse.Namespace`` with hyper-parameters, paths, and classes of Lightning as the names of callbacks. Those, and only
those, are let in: the containers as what they are, Lightning's classes as empty ones that do nothing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from unitrain.checkpoint import integrity as intact
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.gate import restored
from unitrain.checkpoint.weights import SUFFIX, unpacked
from unitrain.compat.torch import code_finder
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What files of torch before 1.6, which are no archives, begin with."""

_PICKLE = b"\x80"
_ARCHIVE = b"PK\x03\x04"
"""What torch takes for its archives by; ``zipfile.is_zipfile`` raises at some flipped bits."""

_LIGHTNING = ("pytorch_lightning.", "lightning.pytorch.", "lightning_fabric.", "lightning.fabric.")


def _mapping(*_: Any) -> dict[Any, Any]:
    """Return an empty dict, in the place of a defaultdict."""
    return {}


_HARMLESS: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "builtins.dict": dict,
    "builtins.float": float,
    "builtins.int": int,
    "builtins.list": list,
    "builtins.str": str,
    "collections.defaultdict": _mapping,
    "datetime.timedelta": dt.timedelta,
    "pathlib.Path": pathlib.PurePath,
    "pathlib.PosixPath": pathlib.PurePosixPath,
    "pathlib.WindowsPath": pathlib.PureWindowsPath,
    "pathlib._local.PosixPath": pathlib.PurePosixPath,
    "pathlib._local.WindowsPath": pathlib.PureWindowsPath,
    "torch.torch_version.TorchVersion": str,
    "pytorch_lightning.utilities.parsing.AttributeDict": dict,
    "lightning.pytorch.utilities.parsing.AttributeDict": dict,
    "lightning_fabric.utilities.data.AttributeDict": dict,
    "lightning.fabric.utilities.data.AttributeDict": dict,
}
"""What a file may name beside what torch allows, and what stands for it."""


class Hollow:
    """What stands for an object or a class of Lightning's: it has a name, and does nothing."""


def read(path: Path) -> dict[str, Any]:
    """Return the content of the file at ``path``, whoever wrote it, on the CPU.

    Raises:
        CheckpointError: If there is none, it is damaged, is no checkpoint, or names code that is not harmless.
    """
    if intact.is_folder(path):
        return parts.read(path)
    if path.suffix == SUFFIX:
        return dict(unpacked(path))
    intact.require_file(path)
    start = _start(path)
    archive = start.startswith(_ARCHIVE)
    if archive:
        intact.verify(path)
    with intact.torchs_classes_alone():
        named = _names(path) if archive else _of_old_file(path, start)
        with _allowed(path, named):
            content = _loaded(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, which is no checkpoint.",
            hint="give a file with a dict of states, or with a state_dict.",
        )
    return restored(dict(content))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_LEGACY))
    except OSError as error:
        raise intact.unreadable(path, error) from error


def _of_old_file(path: Path, start: bytes) -> set[str]:
    """Return what may be let in of a file that is no archive, whose names cannot be listed.

    Raises:
        CheckpointError: If it is none of torch's.
    """
    if start == _LEGACY:
        return set() if code_finder() is None else set(_HARMLESS)
    if start.startswith(_PICKLE):
        raise CheckpointError(
            f"{path} is a pickle that torch did not write; to read it is to run the code that is in it.",
            hint="in a program that trusts it: torch.save(model.state_dict(), path).",
        )
    raise intact.damaged(path, "it is neither an archive of torch's nor a .safetensors file, or was cut off")


def _names(path: Path) -> set[str]:
    """Return the names of code in the file at ``path`` that torch does not allow by itself."""
    find = code_finder()
    try:
        return set() if find is None else set(find(str(path)))
    except Exception as error:
        raise intact.damaged(path, f"its table of contents is not torch's ({error})") from error


@contextmanager
def _allowed(path: Path, named: set[str]) -> Iterator[None]:
    """Let in what is harmless of ``named``, for as long as a file is read."""
    foreign = sorted(name for name in named - _HARMLESS.keys() if not name.startswith(_LIGHTNING))
    if foreign:
        raise _refused(path, ", ".join(foreign))
    stand_ins = [(_HARMLESS.get(name) or _hollow(name), name) for name in sorted(named)]
    if not stand_ins:
        yield
        return
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        yield


def _hollow(name: str) -> type[Hollow]:
    return type(name.rpartition(".")[2], (Hollow,), {})


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:
        raise intact.damaged(path, f"torch cannot read it, or it ends too early ({error})") from error


def _refused(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickle that names code, and unitrain runs no code from a file: {what}",
        hint="in a program that trusts it, load it, turn these into numbers, texts, lists and dicts, and save it anew.",
    )


def made_plain(value: Any, place: str, changed: list[str]) -> Any:
    """Return ``value`` with plain values for what is neither a tensor nor plain, and note the places in ``changed``."""
    if isinstance(value, dict):
        made = {_key(key): made_plain(one, f"{place}.{_key(key)}", changed) for key, one in value.items()}
        return _type_of(value)(made)
    if type(value) in (list, tuple):
        return type(value)(made_plain(one, f"{place}.{number}", changed) for number, one in enumerate(value))
    for kind, convert in _PLAIN.items():
        if isinstance(value, kind):
            changed.append(place.removeprefix("."))
            return made_plain(convert(value), place, changed)
    return value


def _type_of(value: dict[Any, Any]) -> type[dict[Any, Any]]:
    """Return the class to build a copy of ``value`` with; other subclasses become dicts."""
    return type(value) if type(value).__module__ == "collections" else dict


def _key(key: Any) -> Any:
    return key.__name__ if isinstance(key, type) else key


_PLAIN: dict[type[Any], Any] = {
    argparse.Namespace: vars,
    pathlib.PurePath: str,
    dt.timedelta: str,
    Hollow: lambda value: type(value).__name__,
    type: lambda value: value.__name__,
}
