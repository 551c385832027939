"""Configuration files of a framework's own command line, in ``unitrain fit`` and its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitrain.backends.foreign import FrameworkFiles
from unitrain.backends.registry import find_file_reader
from unitrain.cli.configuration.yaml_files import read

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Return the run of files of a framework's own command line; None if they are unitrain's.

    Args:
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        paths: The files, as given; later ones win.
        arguments: Further arguments, as given.
        framework: The backend; by default that of the framework whose files they are.

    Raises:
        ConfigError: If a file cannot be read, or has a key twice, of which LightningCLI would silently take the last.
    """
    contents = [read(path).values for path in paths]
    if any(_OWN & one.keys() for one in contents):
        return None
    reader = next(filter(None, map(find_file_reader, contents)), None)
    if reader is None:
        return None
    files = FrameworkFiles(stage, tuple(paths), tuple(contents), _for_the_framework(arguments))
    return FrameworkRun(reader, files, framework or reader.home)


def _for_the_framework(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without unitrain's own option."""
    found, given = [], iter(arguments)
    for one in given:
        if one == _OUTPUT:
            next(given, None)
        elif not one.startswith(f"{_OUTPUT}="):
            found.append(one)
    return tuple(found)
