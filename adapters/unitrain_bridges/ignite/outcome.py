"""The result of an Ignite program: steps, one row per epoch, the stop reason."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from unitrain.run.result import FitResult
from unitrain.run.stopping import MAX_EPOCHS, MAX_STEPS, USER
from unitrain_bridges.ignite.prepare import max_iters_of
from unitrain_ignite._compat import Events
from unitrain_ignite.stopping import why_terminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch.optim import Optimizer

    from unitrain_bridges.ignite.discovery import Discovered
    from unitrain_ignite._compat import Engine


class Record:
    """Counts the optimizer steps of a run, and keeps the metrics of each epoch.

    Args:
        engine: The engine of the run.
        optimizers: The optimizers whose steps count; if none is known, iterations count.
    """

    def __init__(self, engine: Engine, optimizers: Iterable[Optimizer]) -> None:
        self._engine = engine
        self._optimizers = list(optimizers)
        self._counts: Counter[int] = Counter()
        self._first = engine.state.iteration
        self._before_handlers = False
        self.history: list[dict[str, float]] = []

    @property
    def steps(self) -> int:
        """Number of steps of the known optimizers, or of iterations if none is known."""
        if not self._optimizers:
            return self._engine.state.iteration - self._first
        return sum(self._counts[id(one)] for one in self._optimizers)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Record steps and metrics within; the row of an epoch is written after its handlers.

        No handler is added, as Ignite's profilers and the user would see it: the engine stores how long an epoch took,
        before its handlers and after them, and that is listened to.
        """
        state = self._engine.state
        plain = state.times
        state.times = _Times(plain, self._timed)
        hook = register_optimizer_step_post_hook(self._stepped)
        try:
            yield
        finally:
            hook.remove()
            plain.update(state.times)
            state.times = plain

    def _stepped(self, optimizer: Optimizer, *_: Any) -> None:
        self._counts[id(optimizer)] += 1

    def _timed(self, name: str) -> None:
        """Take note of a time that the engine stores: both when it starts, then the epoch's twice, then the run's."""
        if name not in (Events.EPOCH_COMPLETED.name, Events.COMPLETED.name):
            return
        before, self._before_handlers = self._before_handlers, False
        if name == Events.COMPLETED.name and before:
            self._first = self._engine.state.iteration
        elif before:
            self._epoch_completed()
        elif name == Events.EPOCH_COMPLETED.name:
            self._before_handlers = self._engine.should_terminate_single_epoch != "skip_epoch_completed"

    def _epoch_completed(self) -> None:
        state = self._engine.state
        self.history.append({"epoch": state.epoch - 1, "step": self.steps, **numbers(state.metrics)})


class _Times(dict[str, Any]):
    """An engine's ``state.times`` during a run; a copy is a plain dict.

    Args:
        times: The times in the state.
        stored: Told the name of each time that is stored.
    """

    def __init__(self, times: Mapping[str, Any], stored: Callable[[str], None]) -> None:
        super().__init__(times)
        self._stored = stored

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._stored(name)

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Copy and pickle as a plain dict."""
        return dict, (dict(self),)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers, as floats."""
    return {name: float(value) for name, value in metrics.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return isinstance(value, Real)


def result(engine: Engine, found: Discovered, record: Record, framework: str, native: Any) -> FitResult:
    """Return the outcome of a run."""
    return FitResult(
        metrics=numbers(engine.state.metrics),
        history=record.history,
        epoch=max(engine.state.epoch - 1, 0),
        step=record.steps,
        stopped_by=_stopped_by(engine, found),
        framework=framework,
        native=native,
    )


def _stopped_by(engine: Engine, found: Discovered) -> str:
    state, iterations = engine.state, max_iters_of(engine.state)
    if iterations is not None and state.iteration >= iterations:
        return MAX_STEPS
    if engine.should_terminate:
        return why_terminated(engine, found.engines.values(), transformed=False)
    return MAX_EPOCHS if engine._is_done(state) else USER  # noqa: SLF001 - interrupted, or out of data
