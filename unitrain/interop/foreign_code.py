"""Runs unchanged native code through the bridge of its framework."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from unitrain.backends.features import refuse
from unitrain.backends.protocol import Feature, Stage
from unitrain.backends.registry import find_bridge
from unitrain.callbacks import Callback
from unitrain.data.datamodules import is_datamodule
from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError, SpecError
from unitrain.reports.run.facts import RunFacts, remember
from unitrain.run.active_runs import registered
from unitrain.utilities.files import user_path
from unitrain.utilities.rng import seed_everything

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.backends.foreign import ForeignTrainer
    from unitrain.backends.protocol import Adapter
    from unitrain.config import TrainerConfig
    from unitrain.run.hub import EventHub
    from unitrain.run.result import FitResult


class ForeignCode:
    """Runs a LightningModule or an Ignite program for a trainer.

    Attributes:
        session: The session that runs it; None before its first run.
        model: The module that ran last, if it is one.
        running: Whether it runs at this moment.
        config: The given trainer arguments.

    Args:
        adapter: The backend that runs it.
        config: The trainer's arguments, as they were given.
        hub: The event hub of the trainer.
    """

    def __init__(self, adapter: Adapter, config: TrainerConfig, hub: EventHub) -> None:
        self._adapter = adapter
        self.config = config
        self._hub = hub
        self._framework: str | None = None
        self.session: ForeignTrainer | None = None
        self.model: nn.Module | None = None
        self.running = False

    def __getstate__(self) -> dict[str, Any]:
        """Leave what ran behind."""
        return {**self.__dict__, "session": None, "_framework": None, "model": None, "running": False}

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train as the code's own framework does, on the backend's engine.

        Raises:
            SpecError: If it is not code of a known framework.
            UnitrainError: If it asks for what cannot act there, before it runs.
        """
        began = time.perf_counter()
        with self._running(code) as session:
            result = session.fit(code, data, ckpt_path)
        remember(result, RunFacts(self.config, code, self.config.seed, time.perf_counter() - began))
        self._hub.begin()
        self._hub.state.epoch, self._hub.state.step = result.epoch, result.step
        self._hub.publish(result.metrics)
        return result

    def evaluate(self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None) -> dict[str, float]:
        """Validate or test as the code's own framework does; without code, what ran last."""
        with self._running(code) as session:
            found = session.evaluate(code, data, stage, ckpt_path, verbose=verbose)
        self._hub.publish(found)
        return found

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Return the predictions, one item per batch; without code, of what ran last."""
        with self._running(code) as session:
            return session.predict(code, data, ckpt_path)

    @contextmanager
    def _running(self, code: Any) -> Iterator[ForeignTrainer]:
        """Yield the session for ``code``, with the seed sown.

        Raises:
            ConfigError: If this trainer is in the middle of a run.
        """
        session = self.open(code)
        with registered(fenced=False):
            if self.config.seed is not None:
                seed_everything(self.config.seed)
            self.running = True
            try:
                yield session
            finally:
                self.running = False

    def open(self, code: Any) -> ForeignTrainer:
        """Return the session for ``code``: the one there is, if it is code of the same framework.

        Raises:
            ConfigError: If this trainer is in the middle of a run, or has what the code would never call.
            SpecError: If it is not code of a known framework.
        """
        if self.running:
            raise busy()
        if code is None and self.session is not None:
            return self.session
        bridge = find_bridge(code)
        if bridge is None:
            raise _no_code(code)
        if Feature.NATIVE_CODE not in self._adapter.features:
            way_out = "TrainSpec(model=..., loss=..., optimizer=...)"
            raise refuse(self._adapter, Feature.NATIVE_CODE, f"a {type(code).__name__}", way_out)
        self._refuse_what_would_not_act(bridge.home)
        if self.session is None or self._framework != bridge.home:
            self.session, self._framework = bridge.open(self._adapter, self.config), bridge.home
        if isinstance(code, nn.Module):
            self.model = getattr(code, "_orig_mod", code)
        return self.session

    def _refuse_what_would_not_act(self, home: str) -> None:
        """Refuse what listens to unitrain's own events: this code's run is its framework's, and has none.

        Raises:
            ConfigError: If there is a handler or a Callback of unitrain.
        """
        own = [type(one).__name__ for one in self.config.callbacks if isinstance(one, Callback)]
        handlers = [getattr(handler, "__name__", repr(handler)) for handler in self._hub.handlers]
        if not own and not handlers:
            return
        raise ConfigError(
            f"{', '.join(own + handlers)} would never be called: this code fires {home}'s own hooks, not unitrain's"
            f" events.",
            hint=f"use callbacks or handlers of {home}, or describe the training with a TrainSpec.",
        )

    def save_checkpoint(self, path: str | Path, *, sharded: bool) -> None:
        """Write a checkpoint in the form of the code's own framework.

        Raises:
            ConfigError: If it is to be a folder with one file per process.
        """
        assert self.session is not None  # noqa: S101 - for the type checker
        if sharded:
            raise ConfigError("save_checkpoint(sharded=True) requires a TrainSpec.", hint="remove sharded=.")
        self.session.save_checkpoint(user_path(path))


def busy() -> ConfigError:
    """Return the error for a run within a run of the same trainer."""
    return ConfigError(
        "this trainer is already running.",
        hint="create another UnifiedTrainer for a run inside a handler.",
    )


def _no_code(code: Any) -> SpecError:
    shown = "nothing" if code is None else f"a {type(code).__name__}"
    if isinstance(code, nn.Module):
        return SpecError(
            f"a plain module ({shown}) does not define how to train it.",
            hint="TrainSpec(model=module, loss=..., optimizer=...)",
        )
    return SpecError(
        f"the first argument must be a TrainSpec, a LightningModule or an Ignite engine; got {shown}"
        f"{', which is data, not a spec' if _is_data(code) else ''}.",
        hint=_how_to_run(code),
    )


def _how_to_run(code: Any) -> str:
    if _is_data(code):
        return "fit(spec, loader); after a fit, validate(dataloaders=loader), or predict, uses the same spec."
    if inspect.isroutine(code):
        return "from_step(function) makes a program of Ignite's step(engine, batch); else TrainSpec(training_step=...)."
    return "TrainSpec(model=..., loss=..., optimizer=...)"


def _is_data(given: Any) -> bool:
    if isinstance(given, dict):
        return "model" not in given  # else the fields of a TrainSpec
    kinds = (DataLoader, Dataset, DataSpec, Tensor, list, tuple, Iterator)
    return isinstance(given, kinds) or is_datamodule(given)
