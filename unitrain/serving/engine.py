"""``InferenceEngine``: predictions in Python, from a file, a checkpoint or a trainer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from unitrain.errors import ConfigError, DataError, did_you_mean
from unitrain.serving.arrays import RowReader, without_batch_axis
from unitrain.serving.models.loaded import open_model
from unitrain.serving.refusals import Refusal
from unitrain.utilities.files import user_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from unitrain.serving.arrays import Array, InputReader
    from unitrain.serving.signature import Signature

_CHECKPOINTS: Final = (".ckpt", ".safetensors")
_EXPORTS: Final = (".onnx", ".pt2")


class InferenceEngine:
    """Predicts with a trained model; lists, NumPy arrays and tensors come back as what they were.

    Args:
        source: An exported file (``.onnx``, ``.pt2``, ``.pt``); a trainer after a run; or a checkpoint, with ``model``.
            An ONNX file needs neither torch nor a framework.
        model: The module whose weights a checkpoint holds.
        framework: On what to run a checkpoint's model: ``"lightning"``, ``"ignite"`` or ``"reference"``.
        threads: How many one prediction of a file may use; by default all of the machine's.

    Raises:
        ConfigError: If the arguments do not belong together.
        ExportError: If the file cannot be loaded.
        CheckpointError: If the checkpoint cannot be read, or is of another model.

    Example:
        >>> _ = export_module(torch.nn.Linear(4, 3), "model.onnx", example_input=torch.randn(8, 4))
        >>> engine = InferenceEngine("model.onnx")
        >>> len(engine.predict([0.5, 1.0, -1.0, 2.0]))
        3
        >>> engine.predict(torch.randn(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        source: Any,
        *,
        model: nn.Module | None = None,
        framework: str | None = None,
        threads: int | None = None,
    ) -> None:
        is_path = isinstance(source, (str, os.PathLike))
        if is_path and model is not None and Path(source).suffix in _EXPORTS:
            raise ConfigError("model= is for checkpoints; an exported file holds its model.", hint="remove it.")
        if not is_path or Path(source).suffix in _CHECKPOINTS or model is not None:
            from unitrain.serving.trained import TrainedRunner  # noqa: PLC0415 - it needs torch

            if threads is not None:
                raise ConfigError("threads= is for exported files.", hint="torch.set_num_threads(n)")
            self._runner: RowRunner | TrainedRunner = TrainedRunner(source, model, framework)
            return
        if framework is not None:
            raise ConfigError(
                "framework= is for checkpoints; an exported file runs in its own runtime.", hint="remove it."
            )
        path = user_file(source, "source", ConfigError)
        self._runner = RowRunner(open_model(path, threads or os.cpu_count() or 1), path.name)

    def predict(self, inputs: Any) -> Any:
        """Return the outputs for a batch, or for one row without a batch axis.

        Args:
            inputs: Nested lists, an array or a tensor; a dict of them by name for several inputs, or a tuple in order.

        Returns:
            The output as what came in; several outputs as a dict by name.

        Raises:
            DataError: If dtype or shape are not the model's.
        """
        return self._runner(inputs)

    serve = predict

    @property
    def native(self) -> Any:
        """The real Lightning ``Trainer``, Ignite ``Engine`` or onnxruntime session that predicts."""
        return self._runner.native

    @property
    def signature(self) -> Signature | None:
        """The inputs and outputs of a file; None for a trainer's model."""
        return self._runner.signature

    def __repr__(self) -> str:
        return f"InferenceEngine({self._runner!r})"


class _RowModel(Protocol):
    """What runs rows."""

    @property
    def signature(self) -> Signature: ...

    def run(self, arrays: list[Array]) -> Sequence[Array]: ...


class RowRunner:
    """Predicts with a model that takes rows of arrays.

    Args:
        model: What runs them.
        shown: The name for its repr.
    """

    def __init__(self, model: _RowModel, shown: str = "a model") -> None:
        self._model, self._shown = model, shown
        self.signature = self._model.signature
        self._reader = RowReader(self.signature, None)
        self._only = self._reader.inputs[0] if len(self._reader.inputs) == 1 else None
        self.native = getattr(self._model, "native", None)

    def __call__(self, inputs: Any) -> Any:
        """Return the outputs, of the kind of the inputs; a dict by name if there are several."""
        try:
            kind, rows = self._read(inputs)
        except Refusal as refusal:
            raise DataError(refusal.message, hint="engine.signature shows the inputs.") from None
        found = self._model.run(rows.arrays)
        if rows.single:
            found = without_batch_axis(found)
        if len(found) == 1:
            return kind(found[0])
        return {info.name: kind(one) for info, one in zip(self.signature.outputs, found, strict=True)}

    def _read(self, inputs: Any) -> tuple[Callable[[Array], Any], Any]:
        if self._only is not None and not isinstance(inputs, Mapping):
            kind, array = _read_one(self._only, inputs)
            return kind, self._reader.rows([array])
        named = self._named(inputs)
        kinds: list[Callable[[Array], Any]] = []

        def read(reader: InputReader, given: Any) -> Array:
            kind, array = _read_one(reader, given)
            kinds.append(kind)
            return array

        rows = self._reader.named(named, read)
        return kinds[0], rows

    def _named(self, inputs: Any) -> Mapping[str, Any]:
        names = list(self._reader.by_name)
        if isinstance(inputs, Mapping):
            unknown = next((one for one in inputs if one not in self._reader.by_name), None)
            if unknown is not None:
                raise DataError(f"the model has no input {unknown!r:.80}.", hint=did_you_mean(str(unknown), names))
            return inputs
        if isinstance(inputs, tuple) and len(inputs) == len(names):
            return dict(zip(names, inputs, strict=True))
        raise DataError(f"the model has the inputs {', '.join(names)}.", hint="pass a dict by these names.")

    def __repr__(self) -> str:
        return f"{self._shown!r}"


def _read_one(reader: InputReader, given: Any) -> tuple[Callable[[Array], Any], Array]:
    """Return what makes the outputs of the given kind, and the input as an array."""
    if isinstance(given, np.ndarray):
        return np.asarray, reader.from_array(given)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(given, torch.Tensor):
        return torch.as_tensor, reader.from_array(_of_tensor(given))
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return _listed, reader.from_json(given)
    raise DataError(
        f"an input must be nested lists, a NumPy array or a tensor; got {given!r:.80}.", hint="[[0.1, 0.2, 0.3]]"
    )


def _of_tensor(given: Any) -> Array:
    try:
        found: Array = given.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:
        raise DataError(f"a tensor of {given.dtype} is none of NumPy's: {error}.", hint="x.float()") from error
    return found


def _listed(array: Array) -> Any:
    return array.tolist()
