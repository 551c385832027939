"""Finds the files to migrate, decodes them, and writes them atomically."""

from __future__ import annotations

import os
import shutil
import tokenize
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unitrain.utilities.files import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCRIPT, NOTEBOOK = ".py", ".ipynb"
CONFIGS = (".yaml", ".yml")
KEPT = ".orig"
"""The suffix of a backup of the original."""

_NOT_OURS = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"}


class Text(NamedTuple):
    """A file's text.

    Attributes:
        text: The text with its original newlines.
        encoding: How it is written.
    """

    text: str
    encoding: str


def with_configs(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield the files of some paths, and after them the configs beside a script that was named and reads configs."""
    given = list(paths)
    beside = [one.parent for one in given if one.suffix == SCRIPT and one.is_file() and b"hydra" in one.read_bytes()]
    named = {one.resolve() for one in given}
    for file, _ in find((*given, *beside)):
        if file.resolve() in named or file.suffix in CONFIGS or any(one in file.parents for one in given):
            yield file, file.resolve() in named


def find(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield the files of some paths once each, and whether a file was named itself."""
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            one: list[tuple[Path, bool]] = [(path, True)]
        else:
            one = [(file, False) for file in _within(path)]
        for file, named in one:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, named


def _within(folder: Path) -> Iterator[Path]:
    for top, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in _NOT_OURS)
        folders[:] = [one for one in folders if not (Path(top) / one / "pyvenv.cfg").exists()]
        for name in sorted(names):
            if Path(name).suffix in (SCRIPT, NOTEBOOK, *CONFIGS) and not name.startswith("."):
                yield Path(top) / name


def read(path: Path) -> Text:
    """Return a file's text.

    Raises:
        OSError: If it cannot be read.
        ValueError: If its bytes are not what its encoding says.
    """
    encoding = "utf-8"
    if path.suffix == SCRIPT:
        with path.open("rb") as file:
            try:
                encoding, _ = tokenize.detect_encoding(file.readline)
            except SyntaxError as error:
                raise ValueError(str(error)) from error
    return Text(path.read_bytes().decode(encoding), encoding)


def write(path: Path, after: Text) -> Path:
    """Replace a file with a text atomically, and keep the original beside it.

    Args:
        path: The file.
        after: The text.

    Returns:
        Where the original is; one that is there already stays, for it is the older one.
    """
    target = path.resolve()
    original = target.with_name(target.name + KEPT)
    data = after.text.encode(after.encoding)

    made: list[Path] = []

    def prepare(part: Path) -> None:
        shutil.copymode(target, part)
        made.extend(_kept(target, original))

    try:
        with written(target, check=prepare) as file:
            file.write(data)
    except BaseException:
        for one in made:
            one.unlink(missing_ok=True)
        raise
    return original if path.is_symlink() else path.with_name(original.name)


def _kept(target: Path, original: Path) -> list[Path]:
    """Copy a file to where its original is kept, and return the copy; nothing if there is an older one."""
    try:
        with written(original, new=True, check=partial(shutil.copystat, target)) as file:
            file.write(target.read_bytes())
    except FileExistsError:
        return []
    return [original]
