"""Reads what an exported file says of itself: without torch, and without running anything from the file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from unitrain.export.request import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMPILED = "wrapper_metadata.json"
"""The end of the name under which AOTInductor puts it."""

_PROPERTIES, _KEY, _VALUE = 14, 1, 2
"""The numbers of the fields in ONNX's messages: ``ModelProto.metadata_props``, and the two in each of its entries."""

_LENGTH_FIRST = 2
_FIXED = {1: 8, 5: 4}
_LONGEST_NUMBER = 63
_LARGEST_HEADER = 100_000_000
"""The limit of safetensors itself."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # an encrypted one is a RuntimeError
_FOREIGN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError, *_DAMAGED)
"""The errors of files of others: damaged, or with something else where unitrain has a text."""


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """Return the metadata that unitrain wrote into an exported file; None for a file that has none.

    Imports no torch, except for a ``.pte``, which only ExecuTorch's runtime reads.

    Args:
        path: The file; its suffix selects the format.

    Raises:
        OSError: If it cannot be read.
    """
    path = Path(path)
    try:
        text = _READERS.get(path.suffix, _in_zip)(path)
        found = None if text is None else json.loads(text)
    except _FOREIGN:
        return None  # whatever it is, unitrain did not write it; the format's own reader says what is wrong with it
    return found if isinstance(found, dict) else None


def _in_zip(path: Path) -> str | None:
    """Read torch's archives: ``.pt2``, compiled or not, and TorchScript."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.rpartition("/")[2] == METADATA:
                return archive.read(name).decode()
            if name.endswith(_COMPILED):
                text: str | None = json.loads(archive.read(name)).get(METADATA)
                return text
    return None


def _in_onnx(path: Path) -> str | None:
    """Read the properties of an ONNX file; the graph is skipped, however large it is."""
    with path.open("rb") as file:
        for _, entry in _fields(file, {_PROPERTIES}):
            parts = dict(_fields(io.BytesIO(entry), {_KEY, _VALUE}))
            if parts.get(_KEY) == METADATA.encode():
                return parts[_VALUE].decode()
    return None


def _fields(file: IO[bytes], wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the wanted fields of a protobuf message, each with its number.

    Raises:
        ValueError: If it is no such message.
    """
    while (tag := _number(file)) is not None:
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _number(file)
        elif kind in _FIXED:
            file.seek(_FIXED[kind], io.SEEK_CUR)
        elif kind == _LENGTH_FIRST:
            size = _number(file) or 0
            if number in wanted:
                yield number, file.read(size)
            else:
                file.seek(size, io.SEEK_CUR)
        else:
            raise ValueError(f"not a protobuf message: a field of kind {kind}")


def _number(file: IO[bytes]) -> int | None:
    """Read a number of any length, seven bits a byte; None at the end of the file."""
    value = shift = 0
    while part := file.read(1):
        value |= (part[0] & 127) << shift
        if part[0] <= 127:  # noqa: PLR2004 - the last one
            return value
        shift += 7
        if shift > _LONGEST_NUMBER:
            raise ValueError("not a protobuf message: a number of more than 64 bits")
    return None


def _in_safetensors(path: Path) -> str | None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, _LARGEST_HEADER)))
    text: str | None = header["__metadata__"].get(METADATA)
    return text


def _in_executorch(path: Path) -> str:
    from unitrain.export.formats.executorch import metadata_in  # noqa: PLC0415 - imports torch

    return metadata_in(path)


_READERS = {".onnx": _in_onnx, ".safetensors": _in_safetensors, ".pte": _in_executorch}
