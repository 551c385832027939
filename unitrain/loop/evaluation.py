"""Validation, test and prediction, shared by all backends."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.backends.protocol import Stage
from unitrain.data.batch import sample_counter
from unitrain.data.batches import Batches
from unitrain.loop.meter import LoaderMeter, SharedMeter, StageMeter
from unitrain.loop.metered_run import MeteredRun
from unitrain.loop.precision import converted, within
from unitrain.loop.step import EvalStep, predict
from unitrain.run.hub import Event
from unitrain.utilities.profiling import VALIDATION, evaluated
from unitrain.utilities.rng import RngSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from unitrain.backends.protocol import EvalJob
    from unitrain.data.sources import DataSource
    from unitrain.loop.precision import Context

_EVENTS: dict[Stage, tuple[Event, Event, Event, Event]] = {
    Stage.VAL: (Event.VAL_START, Event.VAL_BATCH_START, Event.VAL_BATCH_END, Event.VAL_END),
    Stage.TEST: (Event.TEST_START, Event.TEST_BATCH_START, Event.TEST_BATCH_END, Event.TEST_END),
    Stage.PREDICT: (Event.PREDICT_START, Event.PREDICT_BATCH_START, Event.PREDICT_BATCH_END, Event.PREDICT_END),
}


class _Part:
    """One loader of an evaluation.

    Attributes:
        name: Name of the loader among several, or None.
        meter: The meter of the loader.
        step: The step for a batch.
        batches: The batches of the loader.
    """

    def __init__(self, program: MeteredRun, source: DataSource, stage: Stage, meter: StageMeter) -> None:
        self.name = source.name
        self.meter = meter
        self.step: Callable[[Any, int], Any] = EvalStep(program.spec, meter, program.context).run
        if stage is Stage.PREDICT:
            predict_in_context = within(program.context, predict)
            self.step = lambda batch, _: predict_in_context(program.spec, batch)
        if program.hub.clock is not None:
            self.step = program.hub.clock.timed(evaluated(stage.value), self.step)
        if program.sharded is not None:
            self.step = partial(program.sharded.run, self.step)
        changes = bool(program.config.reload_dataloaders_every_n_epochs)
        source = converted(source, program.config.precision)
        self.batches = Batches(source, lambda: program.state.epoch, changes=changes)


class InTurn:
    """The batches of several loaders, one loader after the other. A loop must not read ahead.

    Args:
        parts: The loaders.
        begin: Called with each loader before its first batch is read.
    """

    def __init__(self, parts: Sequence[_Part], begin: Callable[[_Part], None]) -> None:
        self._parts = parts
        self._begin = begin

    @property
    def sized(self) -> bool:
        """Whether ``length`` is known."""
        return all(part.batches.sized for part in self._parts)

    @property
    def length(self) -> int | None:
        """Number of batches of all loaders together, or None if unknown."""
        return sum(part.batches.length or 0 for part in self._parts) if self.sized else None

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            self._begin(part)
            yield from part.batches


class Evaluation:
    """A validation, test or prediction of a spec, an ``EvaluationProgram``.

    The backend has put the model into eval mode and disabled gradients. Random number generators are restored
    afterwards.

    Attributes:
        stage: The stage.
        model: The user's model.
        batches: The batches that the backend's evaluation loop iterates.

    Args:
        program: The run that it belongs to.
        sources: The data, one source per loader.
        stage: The stage.
        device: The device of the metrics.
        keep: Whether ``batch`` returns a prediction; otherwise only handlers see it.
    """

    def __init__(
        self,
        program: MeteredRun,
        sources: Sequence[DataSource],
        stage: Stage,
        device: torch.device,
        *,
        keep: bool = True,
    ) -> None:
        self._program = program
        self.stage = stage
        self.model = program.model
        self._keep = keep
        self._device = device
        self._start, self._batch_start, self._batch_end, self._end = _EVENTS[stage]
        self._count = sample_counter(program.spec.batch_size, stage.value)
        self._sources = sources
        self._sharded = program.sharded
        metrics, team = program.spec.metrics or {}, program.team
        self._named = sources[0].name is not None
        self._meter = shared = SharedMeter(stage.value, team) if self._named else StageMeter(stage.value, metrics, team)
        meters = [self._meter]
        if isinstance(shared, SharedMeter):
            meters = [LoaderMeter(source.prefix, metrics, team, shared) for source in sources]
        self._parts = [_Part(program, source, stage, one) for source, one in zip(sources, meters, strict=True)]
        self._step = self._parts[0].step
        self.batches = InTurn(self._parts, self._begin) if self._named else self._parts[0].batches

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last published values."""
        return self._program.hub.epoch_metrics

    def read_from(self, sources: Sequence[DataSource]) -> None:
        """Read batches from ``sources`` from the next evaluation on; loader names do not change."""
        self._sources = sources
        for part, source in zip(self._parts, sources, strict=True):
            part.batches.read_from(converted(source, self._program.config.precision))

    def _begin(self, part: _Part) -> None:
        self._step = part.step
        self._program.meter, self._program.loader_name = part.meter, part.name

    @property
    def _meters(self) -> list[StageMeter]:
        """The meters: one per loader, then the shared one."""
        return [*(part.meter for part in self._parts), self._meter] if self._named else [self._meter]

    def memory(self) -> dict[str, dict[str, Any]]:
        """Return the state of metrics that persists over epochs, by stage or loader, for a checkpoint."""
        return {meter.prefix: meter.memory() for meter in self._meters}

    def remember(self, kept: Mapping[str, dict[str, Any]]) -> None:
        """Restore the state returned by ``memory``."""
        for meter in self._meters:
            meter.remember(kept.get(meter.prefix, {}))

    def start(self) -> None:
        """Begin."""
        self._began = time.perf_counter()
        self._rng = RngSnapshot(generator for source in self._sources for generator in source.generators)
        self._program.team.broadcast_buffers(self._program.model)
        self._outer = self._program.meter
        self._program.meter = self._meter
        for meter in self._meters:
            meter.reset(self._device)
        self._program.hub.fire(self._start)
        if self._sharded is not None:
            self._sharded.gather()

    def batch(self, batch: Any) -> Any:
        """Evaluate ``batch``; return the prediction, if there is one."""
        program = self._program
        program.batch = batch
        try:
            program.weight = weight = self._count(batch)
            program.hub.fire(self._batch_start)
            program.prediction = result = self._step(batch, weight)
        except StopIteration as error:
            raise RuntimeError("the step raised StopIteration, which would silently end the evaluation") from error
        program.hub.fire(self._batch_end)
        program.weight = program.batch = program.prediction = None
        return result if self._keep else ()  # Lightning warns of None

    def end(self) -> None:
        """End: publish the metrics and restore the random states."""
        hub = self._program.hub
        if self._sharded is not None:
            self._sharded.release()
        self._program.meter, self._program.loader_name = self._meter, None
        for meter in self._meters:
            hub.publish(meter.compute(), meter.tables)
        hub.fire(self._end)
        self._program.agree()
        self._program.meter = self._outer
        self._rng.restore()
        if hub.clock is not None and self.stage is Stage.VAL:
            hub.clock.add(VALIDATION, self._began)


class EvaluationRun(MeteredRun):
    """An evaluation alone.

    Attributes:
        evaluation: The evaluation that the backend's loop drives.

    Args:
        job: The evaluation to run.
        native: The real backend object, for handlers.
        context: Creates the context of a forward pass, or None.
    """

    def __init__(self, job: EvalJob, native: Any, context: Context) -> None:
        super().__init__(job, native)
        self.context = context
        self.sharded = job.sharded
        self.meter = StageMeter(job.stage.value, {})
        self.evaluation = Evaluation(self, job.data, job.stage, job.device, keep=job.keep)
