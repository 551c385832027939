"""A model in memory: its file, identity, signature and the function that runs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from unitrain.errors import ConfigError, ExportError, UnitrainError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from unitrain.serving.arrays import Array
    from unitrain.serving.signature import Signature, TensorInfo

SLOW: Final = 2e-3
"""Seconds of the largest batch above which a model runs in a thread; below, handing over costs more than it gains."""

_BLOCK: Final = 2**20
_REPEATS: Final = 3
LONG: Final = 10 * SLOW
"""Seconds of one run in the event loop after which a model runs in a thread."""
_UNKNOWN_AXIS = _TWO = 2
_CLOSE: Final = 1e-2
"""As far as a half-precision model may be from itself at another batch size."""


class Model(Protocol):
    """Runs one file.

    Attributes:
        format: Of the file.
        signature: Its inputs and outputs.
        metadata: What the file says of itself; empty for a file of another program.
    """

    format: str
    signature: Signature
    metadata: Mapping[str, Any]

    def run(self, inputs: list[Array]) -> list[Array]:
        """Return the outputs for arrays of the signature's dtypes."""
        ...


class Stamp(NamedTuple):
    """What changes when a file is replaced or written to."""

    modified: int
    inode: int
    size: int


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        OSError: If there is none.
    """
    found = path.stat()
    return Stamp(found.st_mtime_ns, found.st_ino, found.st_size)


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer.

    Attributes:
        name: Under which it is served.
        path: Its file.
        stamp: Of the file that was read.
        sha256: Of the file.
        model: Runs it.
        joins: Whether several requests can be one run: the first axis of all inputs and outputs is the batch.
        is_slow: Whether it should not run in the event loop.
        loaded_at: When, as ISO 8601 in UTC.
    """

    name: str
    path: Path
    stamp: Stamp
    sha256: str
    model: Model
    joins: bool
    is_slow: bool
    loaded_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""
        return self.model.signature

    def run(self, inputs: list[Array]) -> list[Array]:
        """Return the outputs."""
        return self.model.run(inputs)

    def described(self) -> dict[str, Any]:
        """Return its identity and signature, for JSON; no path of this machine."""
        versions = {name: self.model.metadata[name] for name in ("unitrain", "torch") if name in self.model.metadata}
        return {
            "name": self.name,
            "file": self.path.name,
            "format": self.model.format,
            "sha256": self.sha256,
            "inputs": [one.described() for one in self.signature.inputs],
            "outputs": [one.described() for one in self.signature.outputs],
            "example": dict(self.signature.example) or None,
            "metrics": self.model.metadata.get("metrics") or {},
            "versions": versions,
            "loaded": self.loaded_at,
        }


def open_model(path: Path, threads: int) -> Model:
    """Return what runs a file.

    Args:
        path: An exported file.
        threads: How many one run may use.

    Raises:
        ExportError: If it is not a file that can be served.
    """
    if not path.is_file():
        raise ExportError(f"there is no file {path}.", hint='trainer.export("model.onnx")')
    module = _MODULES.get(path.suffix)
    if module is None:
        raise ExportError(
            f"{path.name} cannot be served: the suffix must be one of {', '.join(_MODULES)}.",
            hint="a checkpoint is exported first: unitrain export run.ckpt model.onnx --model train:make_spec",
        )
    try:
        made: Model = import_module(module).open_file(path, threads)
    except ImportError as error:
        raise ConfigError(
            f"{path.name} cannot be served: {error.name or error} is not installed.",
            hint="pip install onnxruntime for .onnx; torch for .pt2 and .pt.",
        ) from error
    return made


_MODULES: Final = {
    ".onnx": "unitrain.serving.models.onnx_file",
    **dict.fromkeys((".pt2", ".pt", ".ts", ".torchscript"), "unitrain.serving.models.torch_file"),
}
"""By suffix, the module whose ``open_file(path, threads)`` returns a Model."""


def load(name: str, path: Path, *, threads: int, max_batch: int) -> Loaded:
    """Load a file and run it on an example, with one row and with ``max_batch``.

    Args:
        name: Under which it is served.
        path: The file.
        threads: How many one run may use.
        max_batch: The most rows of a run.

    Raises:
        ExportError: If it cannot be loaded, fails on its example, or was replaced meanwhile.
    """
    try:
        before = stamp_of(path)
        model = open_model(path, threads)
        _require_dtypes(model.signature)
        sha256 = _sha256(path)
        joins, is_slow = _warm_up(model, max_batch, path.name)
        after = stamp_of(path)
    except UnitrainError:
        raise
    except OSError as error:
        raise ExportError(f"{path.name} cannot be read: {error.strerror}.", hint="check the path.") from error
    except Exception as error:  # whatever a file of others leads to
        reason = str(error).replace(str(path), path.name)[:300]
        raise ExportError(f"{path.name} cannot be served: {type(error).__name__}: {reason}") from error
    if before != after:
        raise ExportError(f"{path.name} was replaced while it was read.", hint="try again.")
    return Loaded(name, path, after, sha256, model, joins=joins, is_slow=is_slow)


def _require_dtypes(signature: Signature) -> None:
    """Refuse what cannot be sent.

    Raises:
        ExportError: For the first input or output that is not of numbers that NumPy knows.
    """
    for one in (*signature.inputs, *signature.outputs):
        if one.dtype not in _DTYPES:
            raise ExportError(
                f"{one.name!r} is {one.dtype}, which cannot be served.", hint=f"supported: {', '.join(_DTYPES)}."
            )


_DTYPES: Final = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _warm_up(model: Model, max_batch: int, name: str) -> tuple[bool, bool]:
    """Run the model, and return whether requests can be joined and whether it is slow.

    Raises:
        ExportError: If it fails.
    """
    joins = model.signature.has_batch_axis
    rows = max_batch if joins else 1
    try:
        joins = joins and _rows_are_apart(model)
        inputs = example_inputs(model.signature, rows)
        joins = joins and all(len(one) == rows for one in model.run(inputs))
        return joins, _seconds(model, inputs) > SLOW
    except Exception as error:
        raise ExportError(
            f"{name} fails on an example of {rows} rows: {str(error)[:300]}",
            hint="--max-batch limits the rows of a run.",
        ) from error


def _rows_are_apart(model: Model) -> bool:
    """Return whether a row's outputs are its own: two different rows give the same together as they do alone."""
    one = example_inputs(model.signature, 1)
    other = [_another(array) for array in one]
    first = model.run(one)
    try:
        second = model.run(other)
    except Exception:  # noqa: BLE001 - numbers that the model does not know, such as words
        other, second = one, first
    try:
        together = model.run([np.concatenate(pair) for pair in zip(one, other, strict=True)])
    except Exception:  # noqa: BLE001 - it takes one row only
        return False
    return all(_is_joined(*parts) for parts in zip(together, first, second, strict=True))


def _another(array: Array) -> Array:
    """Return other numbers of the same dtype."""
    if array.dtype.kind == "f":
        return np.asarray(array * 0.5 + 1, array.dtype)
    return np.asarray(array == 0, array.dtype)


def _is_joined(together: Array, first: Array, second: Array) -> bool:
    if not first.ndim or len(together) != _TWO or len(first) != 1 or len(second) != 1:
        return False
    expected = np.concatenate([first, second])
    if expected.dtype.kind != "f":
        return bool((together == expected).all())
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    return np.allclose(together, expected, rtol=0, atol=_CLOSE * scale, equal_nan=True)


def _seconds(model: Model, inputs: list[Array]) -> float:
    """Return the shortest time of a run, of a few if they are short."""
    found: list[float] = []
    while not found or (len(found) < _REPEATS and found[-1] < LONG):
        began = perf_counter()
        model.run(inputs)
        found.append(perf_counter() - began)
    return min(found)


def example_inputs(signature: Signature, rows: int) -> list[Array]:
    """Return inputs of so many equal rows: the file's example, or zeros."""
    return [_example(one, signature, rows) for one in signature.inputs]


def _example(info: TensorInfo, signature: Signature, rows: int) -> Array:
    shape = info.shape or ()
    batched = signature.has_batch_axis
    given = signature.example.get(info.name)
    if given is not None:
        one = np.asarray(given, info.dtype)
        return np.repeat(one[np.newaxis], rows, axis=0) if batched else one.reshape(_known(shape, one))
    sizes = [size if isinstance(size, int) else _UNKNOWN_AXIS for size in shape]
    return np.zeros([rows, *sizes[1:]] if batched else sizes, info.dtype)


def _known(shape: tuple[int | str, ...], one: Array) -> tuple[int, ...]:
    """Return the shape of an example for a model without a batch axis: as it is, or with a first axis of one."""
    return (1, *one.shape) if len(shape) == one.ndim + 1 else one.shape
