"""Observes unchanged code of a framework, a LightningModule or an Ignite program, on any backend.

Its run has no events of unitrain, so only hooks of torch see it: each step of an optimizer ends a segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from unitrain.testing.comparison import kinds, state
from unitrain.testing.comparison.calls import Calls
from unitrain.testing.comparison.record import Header
from unitrain.testing.comparison.steps import Steps

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from unitrain.run.result import FitResult
    from unitrain.testing.comparison.recorder import Recorder

_OF_THE_MODEL = (kinds.INITIAL_PARAMETERS, kinds.INITIAL_BUFFERS, kinds.PARAMETERS, kinds.BUFFERS)
_KINDS = frozenset(
    {*_OF_THE_MODEL, kinds.INPUT, kinds.OUTPUT, kinds.GRADIENT, kinds.OPTIMIZER_STATE, kinds.RATES}
    | {kinds.OUTCOME, kinds.METRICS, kinds.FINAL_PARAMETERS, kinds.FINAL_BUFFERS}
)


class NativeObserver:
    """Records the run of a framework's code.

    Args:
        code: The code.
        recorder: Where to.
    """

    def __init__(self, code: Any, recorder: Recorder) -> None:
        self._recorder = recorder
        self._model = code if isinstance(code, nn.Module) else None
        self._names = state.Names(self._model)
        self._optimizers: dict[int, Optimizer] = {}
        self._calls = Calls(recorder)
        recorder.begin(Header(_KINDS, loop=False))
        if self._model is not None:
            recorder.add(kinds.INITIAL_PARAMETERS, state.parameters(self._model))
            recorder.add(kinds.INITIAL_BUFFERS, state.buffers(self._model))
            self._calls.watch(_called(self._model))
        recorder.close()
        self._watch_inside()
        recorder.start_clock()
        # in the order of Lightning's automatic optimization, a closure computes the gradients within the step
        self._steps = Steps(lambda _: None, after=self._after)

    def _after(self, optimizer: Optimizer) -> None:
        with self._recorder.aside():
            self._optimizers.setdefault(id(optimizer), optimizer)
            add = self._recorder.add
            add(kinds.GRADIENT, state.gradients(optimizer, self._names))
            if self._model is not None:
                add(kinds.PARAMETERS, state.parameters(self._model))
                add(kinds.BUFFERS, state.buffers(self._model))
            else:
                add(kinds.PARAMETERS, state.held(optimizer))
            add(kinds.OPTIMIZER_STATE, state.optimizer_states({"": optimizer}, self._names))
            add(kinds.RATES, state.options({"": optimizer}))
            self._recorder.close()
            self._watch_inside()

    def _watch_inside(self) -> None:
        if self._model is not None:
            self._calls.watch_inside(self._model)

    def leave(self) -> None:
        """Remove all hooks."""
        self._calls.leave()
        self._steps.leave()

    def end(self, result: FitResult) -> None:
        """Record how the run ended."""
        outcome = {"stopped_by": result.stopped_by, "epoch": result.epoch, "step": result.step}
        with self._recorder.aside():
            self._recorder.segment.end = True
            self._recorder.findings.history += result.history
            self._recorder.add(kinds.OUTCOME, outcome.items())
            self._recorder.add(kinds.METRICS, result.metrics.items())
            if self._model is not None:
                self._recorder.add(kinds.FINAL_PARAMETERS, state.parameters(self._model))
                self._recorder.add(kinds.FINAL_BUFFERS, state.buffers(self._model))
            self._recorder.close()


def _called(model: nn.Module) -> list[nn.Module]:
    """Return what a step may call: the model itself, and its parts that have parameters."""
    return [model, *(one for one in model.children() if next(one.parameters(), None) is not None)]
