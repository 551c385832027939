"""A validation, test or prediction, written once: what a backend's evaluation loop calls, and in which order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.batch import batch_size
from unitrain.data import Batches
from unitrain.events import Event
from unitrain.meter import StageMeter
from unitrain.precision import converted, within
from unitrain.protocol import Stage
from unitrain.rng import RngSnapshot
from unitrain.step import EvalStep, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from unitrain.data import DataSource
    from unitrain.program import Program

_EVENTS: dict[Stage, tuple[Event, Event, Event, Event]] = {
    Stage.VAL: (Event.VAL_START, Event.VAL_BATCH_START, Event.VAL_BATCH_END, Event.VAL_END),
    Stage.TEST: (Event.TEST_START, Event.TEST_BATCH_START, Event.TEST_BATCH_END, Event.TEST_END),
    Stage.PREDICT: (Event.PREDICT_START, Event.PREDICT_BATCH_START, Event.PREDICT_BATCH_END, Event.PREDICT_END),
}


class Evaluation:
    """A validation, test or prediction. The backend has put the model into eval mode and switched gradients off.

    Nothing that it draws from a random number generator leaves a trace.

    Attributes:
        batches: What the backend's evaluation loop iterates.

    Args:
        program: The run it belongs to.
        source: The data.
        stage: Which one it is.
        device: Where the metrics live.
    """

    def __init__(self, program: Program, source: DataSource, stage: Stage, device: torch.device) -> None:
        self._program = program
        self._stage = stage
        self._device = device
        self._start, self._batch_start, self._batch_end, self._end = _EVENTS[stage]
        self._generators = source.generators
        self._meter = StageMeter(stage.value, program.spec.metrics or {}, program.team)
        self._step: Callable[[Any, int], Any] = EvalStep(program.spec, self._meter, program.context).run
        if stage is Stage.PREDICT:
            predict_in_context = within(program.context, predict)
            self._step = lambda batch, _: predict_in_context(program.spec, batch)
        self._sharded = program.sharded
        if self._sharded is not None:
            self._step = partial(self._sharded.run, self._step)
        self.batches = Batches(converted(source, program.config.precision), lambda: program.state.epoch)

    def start(self) -> None:
        """Begin."""
        self._rng = RngSnapshot(self._generators)
        self._program.team.share_buffers(self._program.model)
        self._outer = self._program.meter
        self._program.meter = self._meter
        self._meter.reset(self._device)
        self._program.hub.fire(self._start)
        if self._sharded is not None:
            self._sharded.gather()

    def batch(self, batch: Any) -> Any:
        """Evaluate ``batch``; return the prediction, if it is one."""
        program = self._program
        program.batch, program.weight = batch, (weight := batch_size(batch))
        program.hub.fire(self._batch_start)
        try:
            result = self._step(batch, weight)
        except StopIteration as error:
            raise RuntimeError("the step raised StopIteration, which would silently end the evaluation") from error
        program.hub.fire(self._batch_end)
        program.weight = program.batch = None
        return result

    def end(self) -> None:
        """End: publish what was measured and forget what was drawn."""
        hub = self._program.hub
        if self._sharded is not None:
            self._sharded.release()
        hub.publish(self._meter.compute())
        hub.fire(self._end)
        self._program.agree()
        self._program.meter = self._outer
        self._rng.restore()
