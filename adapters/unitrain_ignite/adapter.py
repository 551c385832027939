"""The Ignite backend."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unitrain.errors import ConfigError
from unitrain.program import EvalProgram, Evaluation, FitProgram, ModuleModes
from unitrain.protocol import Feature, Translation
from unitrain_ignite._compat import REQUIRES, Engine, Events, Metric
from unitrain_ignite.events import EVENTS, UNMAPPED
from unitrain_ignite.options import OPTIONS
from unitrain_ignite.primitives import TorchPrimitives

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitrain.config import TrainerConfig
    from unitrain.events import Event
    from unitrain.protocol import EvalJob, FitJob


class IgniteAdapter:
    """Runs a spec on a real ``ignite.engine.Engine``."""

    name: ClassVar[str] = "ignite"
    requires: ClassVar[tuple[str, ...]] = REQUIRES
    packages: ClassVar[tuple[str, ...]] = ("ignite",)
    features: ClassVar[frozenset[Feature]] = frozenset(
        {
            Feature.TRAINING,
            Feature.EVALUATION,
            Feature.PREDICTION,
            Feature.MANUAL_OPTIMIZATION,
            Feature.CLOSURE_OPTIMIZERS,
            Feature.ACCUMULATION,
            Feature.CLIPPING,
            Feature.NATIVE_ARGUMENTS,
            Feature.NATIVE_CALLBACKS,
            Feature.GPU,
        }
    )
    events: ClassVar[Mapping[Event, str]] = EVENTS
    unmapped: ClassVar[Mapping[str, str]] = UNMAPPED
    options: ClassVar[Mapping[str, Translation]] = OPTIONS

    def build(self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any]) -> IgniteRun:  # noqa: ARG002
        """Make the engine and attach the native handlers.

        Raises:
            ConfigError: If native arguments are given; ``Engine`` takes only the process function, which is unitrain's.
        """
        given = config.native.get(self.name, {}) if config.native else {}
        if given:
            raise ConfigError(
                f"native={{'ignite': ...}} got {', '.join(map(repr, given))}; ignite.engine.Engine takes only"
                " process_function, and that is unitrain's own step.",
                hint="attach handlers to the object that trainer.create_trainer() returns.",
            )
        return IgniteRun(callbacks)

    def accepts_callback(self, callback: object) -> bool:
        """Return whether ``callback`` is an Ignite handler that needs nothing but an engine to be attached to."""
        attach = None if isinstance(callback, (type, Metric)) else getattr(callback, "attach", None)
        if not callable(attach):
            return False
        try:
            inspect.signature(attach).bind(None)
        except TypeError:
            return False
        return True


class IgniteRun:
    """One engine and what it runs.

    Args:
        handlers: Ignite handlers, attached as they are.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self._program: FitProgram | None = None
        self._engine = Engine(self._process)
        for handler in handlers:
            handler.attach(self._engine)

    @property
    def native(self) -> Engine:
        """The engine that trains, or that evaluated last if nothing was trained."""
        return self._engine

    def _process(self, engine: Engine, batch: Any) -> Any:  # noqa: ARG002 - Ignite's signature
        if self._program is None:
            raise ConfigError("this engine was made by create_trainer(); run it through trainer.fit(spec, loader).")
        return self._program.train_batch(batch)

    def fit(self, job: FitJob) -> None:
        """Train."""
        self._program = program = FitProgram(job, TorchPrimitives(), self._engine)
        validator = None if program.validation is None else _Evaluator(program.validation, job.spec.model)
        loop = _TrainingLoop(program, validator)
        handlers: dict[Events, Callable[..., None]] = {
            Events.STARTED: loop.started,
            Events.EPOCH_STARTED: loop.epoch_started,
            Events.ITERATION_COMPLETED: loop.iteration_completed,
            Events.EPOCH_COMPLETED: loop.epoch_completed,
            Events.COMPLETED: loop.completed,
        }
        for event, handler in handlers.items():
            self._engine.add_event_handler(event, handler)
        epochs = job.config.epochs
        self._engine.run(
            program.batches, max_epochs=sys.maxsize if epochs is None else epochs, epoch_length=program.batches.length
        )
        if self._engine.should_terminate:
            job.hub.request_stop("user")  # a native handler called engine.terminate()

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test."""
        self._evaluate(job)

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""
        return self._evaluate(job)

    def _evaluate(self, job: EvalJob) -> list[Any]:
        program = EvalProgram(job, self._engine)
        evaluator = _Evaluator(program.evaluation, job.spec.model)
        self._engine = program.native = evaluator.engine
        return evaluator.run()


class _TrainingLoop:
    """The handlers that drive a FitProgram from an engine's events."""

    def __init__(self, program: FitProgram, validator: _Evaluator | None) -> None:
        self._program = program
        self._validator = validator
        self._sized = program.batches.sized

    def started(self, engine: Engine) -> None:
        self._program.fit_start()
        if self._program.stopping:
            engine.terminate()

    def epoch_started(self) -> None:
        self._program.epoch_start()

    def iteration_completed(self, engine: Engine) -> None:
        program = self._program
        if self._validator is not None and program.validation_due:
            self._validator.run()
        # Ignite keeps the first epoch's length for all epochs, so without a trusted length each is ended by hand.
        if (not self._sized and program.epoch_over) or (program.stopping and not program.epoch_over):
            engine.terminate_epoch()

    def epoch_completed(self, engine: Engine) -> None:
        self._program.epoch_end()
        if self._program.stopping:
            engine.terminate()

    def completed(self) -> None:
        self._program.fit_end()


class _Evaluator:
    """An engine that evaluates, to be run as often as wanted."""

    def __init__(self, evaluation: Evaluation, model: torch.nn.Module) -> None:
        self._evaluation = evaluation
        self._model = model
        self._results: list[Any] = []
        self.engine = Engine(self._process)
        self.engine.add_event_handler(Events.STARTED, evaluation.start)
        self.engine.add_event_handler(Events.COMPLETED, evaluation.end)

    def _process(self, engine: Engine, batch: Any) -> None:  # noqa: ARG002 - Ignite's signature
        result = self._evaluation.batch(batch)
        if result is not None:
            self._results.append(result)

    def run(self) -> list[Any]:
        self._results = []
        batches = self._evaluation.batches
        modes = ModuleModes(self._model)
        try:
            if not batches.sized:
                self.engine.state.epoch_length = None  # it keeps the length of the run before
            with torch.no_grad():
                self.engine.run(batches, max_epochs=1, epoch_length=batches.length if batches.sized else None)
        finally:
            modes.restore()
        return self._results
