"""Observes the fit of a spec on any backend, by its events and by hooks of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from unitrain.run.hub import Event
from unitrain.testing.comparison import kinds, state
from unitrain.testing.comparison.calls import Calls
from unitrain.testing.comparison.leaves import leaves
from unitrain.testing.comparison.record import Header
from unitrain.testing.comparison.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.run.context import RunContext
    from unitrain.run.result import FitResult
    from unitrain.testing.comparison.recorder import Recorder
    from unitrain.trainer import UnifiedTrainer

_HEADER = Header(frozenset(kinds.PHASES), loop=False)
_BEGIN = (Event.EPOCH_START, Event.BATCH_START, Event.FIT_END)
"""What comes after all that belongs to a step."""


class SpecObserver:
    """Records a fit.

    Args:
        trainer: The trainer to listen to.
        recorder: Where to.
    """

    def __init__(self, trainer: UnifiedTrainer, recorder: Recorder) -> None:
        self._recorder = recorder
        self._calls = Calls(recorder)
        self._steps: Steps | None = None
        self._complete = True  # what there is before the first batch, too
        self._stepped = False
        self._events: list[tuple[str, int, int, int]] = []
        self._run: RunContext | None = None
        self._names = state.Names(None)
        self._labels: dict[int, str] = {}
        acts: dict[Event, Callable[[RunContext], None]] = {
            Event.FIT_START: self._begin,
            Event.BATCH_START: self._batch_start,
            Event.OPTIMIZER_STEP: self._after_optimizer,
            Event.BATCH_END: self._batch_end,
            Event.VAL_END: self._measured,
            Event.EPOCH_END: self._epoch_end,
            Event.FIT_END: self._fit_end,
        }
        for event in Event:
            trainer.on(event, self._handler(event, acts.get(event)))

    def _handler(self, event: Event, act: Callable[[RunContext], None] | None) -> Callable[[RunContext], None]:
        def handle(run: RunContext) -> None:
            with self._recorder.aside():
                at = run.state
                if event in _BEGIN and self._complete:
                    self._close(run)
                self._events.append((event.value, at.epoch, at.step, at.batch))
                if act is not None:
                    act(run)

        return handle

    def _begin(self, run: RunContext) -> None:
        self._run, model = run, run.model
        self._names = state.Names(model)
        several = state.labels(run.optimizers)
        self._labels = {id(one): several[name] for name, one in run.optimizers.items()}
        add = self._recorder.add
        self._recorder.begin(_HEADER)
        add(kinds.INITIAL_PARAMETERS, state.parameters(model))
        add(kinds.INITIAL_BUFFERS, state.buffers(model))
        add(kinds.RANDOM_STATE, state.random_states())
        self._calls.watch(_called(model, run.spec.optimizer))
        self._calls.watch_inside(model)
        self._steps = Steps(self._gradients)

    def _batch_start(self, run: RunContext) -> None:
        self._recorder.start_clock()
        self._recorder.add(kinds.BATCH, leaves(run.batch, "batch"))
        self._recorder.add(kinds.RANDOM_STATE, state.random_states())

    def _gradients(self, optimizer: Optimizer) -> None:
        with self._recorder.aside():
            named = state.gradients(optimizer, self._names, self._labels.get(id(optimizer), ""))
            self._recorder.add(kinds.GRADIENT, named)

    def _after_optimizer(self, run: RunContext) -> None:  # noqa: ARG002 - a handler's
        self._stepped = True

    def _batch_end(self, run: RunContext) -> None:
        add, loss = self._recorder.add, run.state.loss
        if loss is not None:
            add(kinds.LOSS, [("loss", loss)], before=kinds.GRADIENT)
            self._recorder.add_loss(float(loss))
        logged = run.logged_values().items()  # as they enter the means
        add(kinds.LOGGED, [(name, torch.tensor(float(value), dtype=torch.float32)) for name, value in logged])
        if self._stepped:
            self._stepped, self._complete = False, True
            optimizers = {self._labels[id(one)]: one for one in run.optimizers.values()}
            add(kinds.PARAMETERS, state.parameters(run.model))
            add(kinds.BUFFERS, state.buffers(run.model))
            add(kinds.OPTIMIZER_STATE, state.optimizer_states(optimizers, self._names))
            add(kinds.RATES, state.options(optimizers))

    def _measured(self, run: RunContext) -> None:
        self._recorder.add(kinds.METRICS, {**run.state.metrics, **run.state.tensors}.items())

    def _fit_end(self, run: RunContext) -> None:
        self._recorder.segment.end = True
        self._measured(run)

    def _epoch_end(self, run: RunContext) -> None:
        self._measured(run)
        row = {"epoch": run.state.epoch, "step": run.state.step, **run.hub.epoch_metrics}
        self._recorder.findings.history.append(row)

    def _close(self, run: RunContext) -> None:
        self._complete = False
        self._recorder.add(kinds.SCHEDULES, state.schedules(run.schedules))
        self._recorder.add(kinds.SCALER, leaves({} if run.scaler is None else run.scaler.state_dict()))
        self._recorder.add(kinds.EVENTS, leaves(self._events))
        self._events = []
        self._recorder.close(run.state.epoch, run.state.batch)
        self._calls.watch_inside(run.model)

    def leave(self) -> None:
        """Remove all hooks."""
        self._calls.leave()
        if self._steps is not None:
            self._steps.leave()

    def end(self, result: FitResult) -> None:
        """Record how the fit ended."""
        run = self._run
        if run is None:
            return
        outcome = {"stopped_by": result.stopped_by, "epoch": result.epoch, "step": result.step}
        with self._recorder.aside():
            add = self._recorder.add
            add(kinds.OUTCOME, outcome.items(), before=kinds.METRICS)
            add(kinds.METRICS, {**result.metrics, **result.tensors}.items())
            add(kinds.FINAL_PARAMETERS, state.parameters(run.model))
            add(kinds.FINAL_BUFFERS, state.buffers(run.model))
            add(kinds.RANDOM_STATE, state.random_states())
            self._close(run)


def _called(model: nn.Module, optimizer: Any) -> list[nn.Module]:
    """Return what a step may call: the model, and the submodules with an optimizer of their own."""
    found = {id(model): model}
    for name in optimizer if isinstance(optimizer, Mapping) else ():
        part = dict(model.named_modules()).get(name)
        if part is not None:
            found[id(part)] = part
    return list(found.values())
