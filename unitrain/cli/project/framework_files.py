"""Configuration files of a framework's own command line, in ``unitrain fit`` and its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from unitrain.backends.foreign import FrameworkFiles
from unitrain.backends.registry import find_file_reader
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.backends.foreign import FileReader

_OWN = frozenset({"framework", "seed", "spec"})
"""Keys that only unitrain's own files have."""


_OUTPUT = "--output"
"""The option of ``unitrain predict`` that no framework knows."""


@dataclass(frozen=True)
class FrameworkRun:
    """A run of files of a framework's own command line.

    Attributes:
        reader: The bridge that runs them.
        files: The files.
        framework: The backend.
    """

    reader: FileReader
    files: FrameworkFiles
    framework: str

    def run(self) -> Any:
        """Run them as the framework's own command line does.

        Returns:
            A FitResult, the metrics of an evaluation, or predictions; None if nothing was to be run.

        Raises:
            UnitrainError: If a file is invalid, or needs what the backend does not support.
        """
        return self.reader.run_files(self.files, self.framework)


def framework_run(
    stage: str, paths: Sequence[str], arguments: Sequence[str], framework: str | None
) -> FrameworkRun | None:
    """Return the run of files of a framework's own command line; None if they are unitrain's, or cannot be read.

    Args:
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        paths: The files, as given; later ones win.
        arguments: Further arguments, as given.
        framework: The backend; by default that of the framework whose files they are.

    Raises:
        ConfigError: If a file of a framework has a key twice, of which its own reader would silently take the last.
    """
    contents = [_contents(path) for path in paths]
    mappings = [one for one in contents if one is not None]
    if not mappings or len(mappings) < len(contents) or any(_OWN & one.keys() for one in mappings):
        return None
    reader = next(filter(None, map(find_file_reader, mappings)), None)
    if reader is None:
        return None
    for path in paths:
        yaml.load(user_path(path).read_bytes(), _NoKeyTwice)  # noqa: S506 - a SafeLoader
    files = FrameworkFiles(stage, tuple(paths), tuple(mappings), _for_the_framework(arguments))
    return FrameworkRun(reader, files, framework or reader.home)


class _NoKeyTwice(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
        if twice is not None:
            raise ConfigError(f"line {node.start_mark.line + 1}: the key {twice!r} is there twice.", hint="remove one.")
        return super().construct_mapping(node, deep)


def _for_the_framework(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without unitrain's own option."""
    found, given = [], iter(arguments)
    for one in given:
        if one == _OUTPUT:
            next(given, None)
        elif not one.startswith(f"{_OUTPUT}="):
            found.append(one)
    return tuple(found)


def _contents(path: str) -> Mapping[str, Any] | None:
    """Return what a YAML file contains, if it is a mapping."""
    try:
        found = yaml.safe_load(user_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError, UnitrainError):
        return None  # the reader of unitrain's own files says what is wrong
    return found if isinstance(found, dict) else None
