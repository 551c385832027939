"""Reads files of other programs without running code from them.

``weights_only`` allows tensors and a few containers. Old files contain other harmless objects: an
``argparse.Namespace`` with hyper-parameters, paths, and a framework's own classes as names of callbacks. These, and
only these, are allowed: containers unchanged, and classes named by a codec as empty placeholders.
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from unitrain.checkpoint import integrity as intact
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.gate import restored
from unitrain.checkpoint.safetensors_file import SUFFIX, unpacked
from unitrain.compat.torch import code_finder
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of files from torch before 1.6, which are not archives."""

_PICKLE = b"\x80"
_ARCHIVE = b"PK\x03\x04"
"""The magic bytes of torch's archives; ``zipfile.is_zipfile`` raises on some flipped bits."""


def _mapping(*_: Any) -> dict[Any, Any]:
    """Return an empty dict, instead of a defaultdict."""
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
}
"""Globals that a file may reference in addition to torch's, and their replacements."""


class Hollow:
    """A placeholder for a framework's object or class: it has a name, and does nothing."""


class Allowed(NamedTuple):
    """The names that a file may contain in addition to those that torch allows.

    Attributes:
        stand_ins: Replacements for classes, by full name.
        hollow: Prefixes of full names of classes that are replaced with empty ones.
    """

    stand_ins: Mapping[str, Any]
    hollow: tuple[str, ...] = ()

    def stand_in(self, name: str) -> Any:
        """Return the replacement for ``name``, or None if it is not harmless."""
        found = self.stand_ins.get(name)
        return _hollow(name) if found is None and name.startswith(self.hollow) else found


def read(path: Path, stand_ins: Mapping[str, Any] = _HARMLESS, hollow: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the content of the file at ``path`` of any program, on the CPU.

    Args:
        path: The file.
        stand_ins: Replacements for classes in a file, by full name, in addition to Python's containers.
        hollow: Prefixes of full names of classes that are replaced with empty ones.

    Raises:
        CheckpointError: If the file does not exist, is damaged, is not a checkpoint, or names code that is not
            harmless.
    """
    if intact.is_folder(path):
        return parts.read(path)
    if path.suffix == SUFFIX:
        return dict(unpacked(path))
    intact.require_file(path)
    start = _start(path)
    archive = start.startswith(_ARCHIVE)
    allowed = Allowed({**_HARMLESS, **stand_ins}, hollow)
    if archive:
        intact.verify(path)
    with intact.torchs_classes_alone():
        named = _names(path) if archive else _of_old_file(path, start, allowed)
        with _let_in(path, named, allowed):
            content = _loaded(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} contains a {type(content).__name__}, not a checkpoint.",
            hint="pass a file with a dict of states or a state_dict.",
        )
    return restored(dict(content))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_LEGACY))
    except OSError as error:
        raise intact.unreadable(path, error) from error


def _of_old_file(path: Path, start: bytes, allowed: Allowed) -> set[str]:
    """Return the names to allow in a file that is not an archive, whose names cannot be listed.

    Raises:
        CheckpointError: If it is none of torch's.
    """
    if start == _LEGACY:
        return set() if code_finder() is None else set(allowed.stand_ins)
    if start.startswith(_PICKLE):
        raise CheckpointError(
            f"{path} is a pickle not written by torch; reading it would run its code.",
            hint="in a program that trusts it: torch.save(model.state_dict(), path).",
        )
    raise intact.damaged(path, "it is neither a torch archive nor a .safetensors file, or is truncated")


def _names(path: Path) -> set[str]:
    """Return the names of code in the file at ``path`` that torch itself does not allow."""
    find = code_finder()
    try:
        return set() if find is None else set(find(str(path)))
    except Exception as error:
        raise intact.damaged(path, f"its table of contents is not torch's ({error})") from error


@contextmanager
def _let_in(path: Path, named: set[str], allowed: Allowed) -> Iterator[None]:
    """Allow the harmless names of ``named`` while a file is read."""
    stand_ins = [(allowed.stand_in(name), name) for name in sorted(named)]
    foreign = [name for stand_in, name in stand_ins if stand_in is None]
    if foreign:
        raise _refused(path, ", ".join(foreign))
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
        raise intact.damaged(path, f"torch cannot read it, or it is truncated ({error})") from error


def _refused(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickle that references code, and unitrain runs no code from a file: {what}",
        hint="in a program that trusts it, load it, convert these to numbers, strings, lists and dicts, and save it"
        " again.",
    )


def made_plain(value: Any, place: str, changed: list[str]) -> Any:
    """Return ``value`` with everything but tensors made plain, and add the changed places to ``changed``."""
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
