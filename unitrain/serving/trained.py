"""Models of trainers and checkpoints, run by the real ``Trainer`` or ``Engine``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unitrain.backends.registry import adapter_names, find_adapter
from unitrain.errors import BackendNotInstalledError, ConfigError, DataError, install_hint
from unitrain.spec import TrainSpec
from unitrain.trainer import UnifiedTrainer
from unitrain.utilities.files import user_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TrainedRunner:
    """Predicts as ``trainer.predict`` does, to the same bits.

    Args:
        source: A trainer after a run, or a checkpoint.
        model: The module or spec whose weights a checkpoint holds.
        framework: On what to run a checkpoint's model.

    Raises:
        ConfigError: If the arguments do not belong together.
    """

    signature = None

    def __init__(self, source: Any, model: Any, framework: str | None) -> None:
        self._checkpoint: Path | None = None
        if isinstance(source, UnifiedTrainer):
            if model is not None or framework is not None:
                raise ConfigError("model= and framework= are for checkpoints; a trainer has both.", hint="remove them.")
            self._trainer = source
            self._code = _code_of(source)
            return
        self._checkpoint = user_file(source, "source", ConfigError)
        self._code = _spec_of(model, self._checkpoint)
        self._trainer = UnifiedTrainer(framework or _first_installed(), enable_progress_bar=False)

    @property
    def native(self) -> Any:
        """The real object; None before the first prediction of a checkpoint's model."""
        return self._trainer.native

    def __call__(self, inputs: Any) -> Any:
        """Return the prediction for a batch, as the kind that came in."""
        back, batch = _batch(inputs)
        if isinstance(self._code, TrainSpec) and self._code.predict_step is None and not isinstance(batch, Tensor):
            batch = (batch, torch.empty(0))  # the default step takes the first
        found = self._trainer.predict(self._code, [batch], ckpt_path=self._checkpoint)
        self._checkpoint = None  # the model keeps the weights
        return _mapped(found[0], back)

    def __repr__(self) -> str:
        return f"{type(self._trainer.model or self._code).__name__} on {self._trainer.framework!r}"


def _code_of(trainer: UnifiedTrainer) -> Any:
    if trainer.model is None:
        raise ConfigError("this trainer has no model: nothing has run yet.", hint="trainer.fit(spec, loader)")
    spec = trainer._spec  # noqa: SLF001 - what ran last
    return trainer.model if spec is None else spec


def _spec_of(model: Any, path: Path) -> TrainSpec:
    if isinstance(model, TrainSpec):
        return model
    if isinstance(model, nn.Module):
        return TrainSpec(model=model)
    raise ConfigError(
        f"{path.name} holds weights only; model= must be the module; got {model!r:.80}.",
        hint=f'InferenceEngine("{path.name}", model=Net())',
    )


def _first_installed() -> str:
    """Return the first backend whose framework is installed; all give the same bits."""
    for name in adapter_names():
        with suppress(BackendNotInstalledError):
            find_adapter(name)
            return name
    raise BackendNotInstalledError("no backend is installed.", hint=install_hint("all"))


def _batch(inputs: Any) -> tuple[Callable[[Tensor], Any], Any]:
    """Return what makes an output of the given kind, and the inputs as tensors."""
    if isinstance(inputs, Mapping):
        pairs = {name: _batch(one) for name, one in inputs.items()}
        return _kind_of(pairs), {name: batch for name, (_, batch) in pairs.items()}
    if isinstance(inputs, tuple):
        pairs = {str(index): _batch(one) for index, one in enumerate(inputs)}
        return _kind_of(pairs), tuple(batch for _, batch in pairs.values())
    if isinstance(inputs, Tensor):
        return torch.as_tensor, inputs
    if isinstance(inputs, np.ndarray):
        return Tensor.numpy, torch.from_numpy(inputs)
    try:
        return Tensor.tolist, torch.tensor(inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"an input must be nested lists of numbers, a NumPy array or a tensor: {error}", hint="[[0.1, 0.2, 0.3]]"
        ) from error


def _kind_of(pairs: Mapping[str, tuple[Callable[[Tensor], Any], Any]]) -> Callable[[Tensor], Any]:
    if not pairs:
        raise DataError("there are no inputs.", hint="pass an array, or a dict of arrays.")
    return next(iter(pairs.values()))[0]


def _mapped(found: Any, back: Callable[[Tensor], Any]) -> Any:
    if isinstance(found, Tensor):
        return back(found)
    if isinstance(found, Mapping):
        return {name: _mapped(one, back) for name, one in found.items()}
    if isinstance(found, (tuple, list)):
        return type(found)(_mapped(one, back) for one in found) if type(found) in (tuple, list) else found
    return found
