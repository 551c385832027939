"""The table of formats; each format's module is imported on demand."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from unitrain.errors import ExportError, did_you_mean, install_hint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference, Tolerance


class Format(Protocol):
    """Writes files of one format, and reads them for the comparison.

    Attributes:
        options: The fields of ``ExportOptions`` that it accepts; the others are refused.
    """

    options: frozenset[str]

    def tolerance(self, request: Request) -> Tolerance:
        """Return the tolerance, and the reason for it."""
        ...

    def write(self, request: Request, path: Path) -> None:
        """Write one file with ``request.metadata`` in it, where ``metadata.read_metadata`` finds it.

        Raises:
            ExportError: If the model cannot be written so.
        """
        ...

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file with ``request.checks``; mostly ``compared(self.load(path), request)``."""
        ...

    def load(self, path: Path) -> Callable[..., Any]:
        """Return what the file computes: takes the named inputs by position, returns a tensor or a tuple of them."""
        ...


class Entry(NamedTuple):
    """An entry of the table.

    Attributes:
        module: The format's module, which defines ``FORMAT``.
        suffixes: File suffixes.
        needs: The required packages.
        extra: The extra of unitrain that installs them.
    """

    module: str
    suffixes: tuple[str, ...]
    needs: tuple[str, ...] = ()
    extra: str = "export"


FORMATS = {
    "onnx": Entry("unitrain.export.formats.onnx", (".onnx",), needs=("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Entry("unitrain.export.formats.torch_export", (".pt2",)),
    "torchscript": Entry("unitrain.export.formats.torchscript", (".pt", ".ts", ".torchscript")),
    "safetensors": Entry(
        "unitrain.export.formats.safetensors", (".safetensors",), needs=("safetensors",), extra="safetensors"
    ),
    "aoti": Entry("unitrain.export.formats.aoti", (".pt2",)),
    "executorch": Entry("unitrain.export.formats.executorch", (".pte",), needs=("executorch",), extra="executorch"),
}
"""Formats by name; a suffix that several share selects the first."""


def name_of(path: Path, name: str | None = None) -> str:
    """Return the name of the format of ``path``.

    Args:
        path: The file to write.
        name: The requested format; by default inferred from the suffix.

    Raises:
        ExportError: If there is no such format, or the suffix does not belong to it.
    """
    if name is None:
        found = next((one for one, entry in FORMATS.items() if path.suffix in entry.suffixes), None)
        if found is not None:
            return found
        known = ", ".join(f"{suffix} ({one})" for one, entry in FORMATS.items() for suffix in entry.suffixes)
        raise ExportError(f"unknown suffix in {str(path)!r}; supported: {known}.", hint='format="onnx"')
    if name not in FORMATS:
        raise ExportError(f"unknown format {name!r}.", hint=did_you_mean(name, FORMATS))
    if path.suffix not in FORMATS[name].suffixes:
        suffix = FORMATS[name].suffixes[0]
        raise ExportError(
            f"a {name!r} file must end in {' or '.join(FORMATS[name].suffixes)}; got {str(path)!r}.",
            hint=f"{str(path.with_suffix(suffix))!r}",
        )
    return name


def find_format(name: str) -> Format:
    """Return the format of that name.

    Raises:
        ExportError: If a required package is not installed.
    """
    entry = FORMATS[name]
    missing = [one for one in entry.needs if find_spec(one) is None]
    if missing:
        raise ExportError(f"the format {name!r} needs {', '.join(missing)}.", hint=install_hint(entry.extra))
    found: Format = import_module(entry.module).FORMAT
    return found
