"""Runs a LightningModule for a UnifiedTrainer: on a real Trainer, or on a stand-in elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.protocol import Stage
from unitrain.compat.instantiator import refuse_instantiator
from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError, DataError, SpecError
from unitrain_bridges.lightning.batch_values import batch_values
from unitrain_bridges.lightning.namespace import Parts, parts_of
from unitrain_bridges.lightning.opening import Opening
from unitrain_bridges.lightning.options import HOME, arguments
from unitrain_bridges.lightning.outcome import floats, outcome, recorder
from unitrain_bridges.lightning.trackers import following
from unitrain_bridges.lightning.trainer import StandInTrainer
from unitrain_lightning.entry_point_cache import remembered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unitrain.backends.protocol import Adapter
    from unitrain.config import TrainerConfig
    from unitrain.run.result import FitResult

_COMPILED = frozenset({"forward", "training_step", "validation_step", "test_step", "predict_step"})
_METHODS = {Stage.VAL: "validate", Stage.TEST: "test"}


def _check_data(*given: Any) -> None:
    """Refuse data that only a TrainSpec's run reads.

    Raises:
        DataError: If it is invalid.
    """
    if any(isinstance(one, DataSpec) for one in given):
        raise DataError(
            "a LightningModule takes loaders or a LightningDataModule; got a DataSpec.",
            hint="trainer.fit(module, spec.train, spec.val)",
        )


def unwrapped(code: Any) -> Any:
    """Return the module itself, also if torch.compile has wrapped it."""
    return getattr(code, "_orig_mod", code)


class LightningSession:
    """One trainer for LightningModules, from its first run on.

    Attributes:
        bridged: ``self.trainer`` of the module: the real Trainer on Lightning, a stand-in elsewhere; None before.

    Args:
        adapter: The backend that runs it.
        config: UnifiedTrainer's options, as they were given.
    """

    def __init__(self, adapter: Adapter, config: TrainerConfig) -> None:
        self._adapter = adapter
        self._config = config
        self._parts: Parts | None = None
        self._recorder: Any = None
        self.bridged: Any = None

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine`` that ran the steps; None before."""
        if self._adapter.name == HOME:
            return self.bridged
        run = None if self.bridged is None else self.bridged.run
        return None if run is None else run.native

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train; ``data`` is for training and for validation."""
        _check_data(*data)
        trainer = self._trainer_for(code, ckpt_path)
        with self._compiled(code) as module:
            trainer.fit(module, *data, ckpt_path=ckpt_path)
        assert self._parts is not None  # noqa: S101 - for the type checker
        return outcome(self._parts, trainer, self._recorder.rows, self._adapter.name, self.native)

    def evaluate(
        self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None = None
    ) -> dict[str, float]:
        """Validate or test, and return one dict; names of several loaders differ by their end, as Lightning's do."""
        run = getattr(self._trainer_for(code, ckpt_path), _METHODS[stage])
        with self._compiled(code) as module:
            found = run(module, data, ckpt_path=ckpt_path, verbose=verbose is not False)
        return {name: value for one in found or [] for name, value in floats(one).items()}

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Return the predictions, one item per batch, in one list per loader if there are several."""
        _check_data(data)
        trainer = self._trainer_for(code, ckpt_path)
        with self._compiled(code) as module:
            return list(trainer.predict(module, data, ckpt_path=ckpt_path) or [])

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint in Lightning's form."""
        self.bridged.save_checkpoint(path)

    def stop(self) -> None:
        """Ask the running fit to end, as ``trainer.should_stop = True`` does."""
        self.bridged.should_stop = True

    @contextmanager
    def _compiled(self, code: Any) -> Iterator[Any]:
        """Yield the module, which torch compiles for the run if ``compile=True``: forward and steps, as Lightning does.

        Raises:
            ConfigError: If it is compiled already.
        """
        if code is None or not self._config.compile:
            yield code
            return
        if code is not unwrapped(code):
            raise ConfigError("compile=True: the module is already compiled.", hint="remove compile=True.")
        assert self._parts is not None  # noqa: S101 - for the type checker
        own = dict(vars(code))
        try:
            yield torch.compile(code)
        finally:
            if code._compiler_ctx is not None:  # noqa: SLF001 - where Lightning keeps that it is compiled
                self._parts.to_uncompiled(code)
            for name in _COMPILED & vars(code).keys() - own.keys():  # Lightning leaves the methods in the module
                delattr(code, name)

    def _trainer(self, code: Any) -> Any:
        """Return the trainer for ``code``: the one there is, unless the module comes from the other package."""
        if code is None:
            return self.bridged
        module = unwrapped(code)
        parts = parts_of(module)
        if not isinstance(module, parts.LightningModule):
            raise SpecError(f"a {type(code).__name__} is not a LightningModule.", hint="pass the module.")
        if self._parts is None or self._parts.root != parts.root:
            self._parts, self.bridged = parts, self._made(parts)
        return self.bridged

    def _trainer_for(self, code: Any, ckpt_path: Any) -> Any:
        """Return the trainer for ``code``, if it may read ``ckpt_path``."""
        trainer = self._trainer(code)
        if self._parts is not None:
            refuse_instantiator(ckpt_path, self._parts.version)
        return trainer

    def _made(self, parts: Parts) -> Any:
        self._recorder = recorder(parts)
        native, own = self._sorted(parts)
        given = arguments(self._config, parts, own)
        listed = given.get("callbacks") or []
        listed = listed if isinstance(listed, (list, tuple)) else [listed]
        loggers = self._config.loggers
        given["callbacks"] = [*listed, *following(parts, loggers), *batch_values(parts, loggers), self._recorder]
        if self._adapter.name == HOME:
            with remembered(parts.root):
                return parts.Trainer(**given)
        return StandInTrainer(parts, given, self._adapter.name, Opening(self._adapter, self._config, tuple(native)))

    def _sorted(self, parts: Parts) -> tuple[list[Any], list[Any]]:
        """Return the callbacks that are the backend's, and those that are Lightning's.

        Raises:
            ConfigError: If one is neither.
        """
        given = self._config.callbacks
        own = [one for one in given if isinstance(one, parts.Callback)]
        rest = [one for one in given if not isinstance(one, parts.Callback)]
        for one in rest:
            if self._adapter.name == HOME or not self._adapter.accepts_callback(one):
                raise ConfigError(
                    f"the callback {type(one).__name__} belongs neither to {parts.root} nor to {self._adapter.name!r}.",
                    hint=f"a LightningModule needs {parts.root}.Callback, from the same package as the module.",
                )
        return rest, own
