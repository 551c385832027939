"""The Ignite backend."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.backends.protocol import ONE_DEVICE, Feature, Translation
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import ConfigError
from unitrain.loop.fit import EvalProgram, FitProgram
from unitrain.loop.precision import forward_context
from unitrain_ignite._compat import REQUIRES, Engine, Events, Metric, bound, heard
from unitrain_ignite.engine import running
from unitrain_ignite.events import EVENTS, UNMAPPED
from unitrain_ignite.module import Evaluator, GuestLoop, TrainingLoop
from unitrain_ignite.options import OPTIONS
from unitrain_ignite.primitives import torch_primitives
from unitrain_ignite.stopping import why_terminated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import torch

    from unitrain.backends.protocol import EvalJob, FitJob, Guest
    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives
    from unitrain.run.hub import CustomEvent, Event
    from unitrain.run.progress import Progress


class IgniteAdapter:
    """Runs a spec on a real ``ignite.engine.Engine``."""

    name: ClassVar[str] = "ignite"
    requires: ClassVar[tuple[str, ...]] = REQUIRES
    packages: ClassVar[tuple[str, ...]] = ("ignite",)
    features: ClassVar[frozenset[Feature]] = ONE_DEVICE | {
        Feature.NATIVE_ARGUMENTS,
        Feature.NATIVE_CALLBACKS,
        Feature.DEVICES,
        Feature.SHARDING,
        Feature.NATIVE_CODE,
    }
    events: ClassVar[Mapping[Event, str]] = EVENTS
    unmapped: ClassVar[Mapping[str, str]] = UNMAPPED
    options: ClassVar[Mapping[str, Translation]] = OPTIONS

    def build(
        self,
        config: TrainerConfig,
        device: torch.device,  # noqa: ARG002
        callbacks: Sequence[Any],
        team: Collectives = SINGLE_PROCESS,  # noqa: ARG002 - Ignite finds torch's process group by itself
    ) -> IgniteRun:
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

    framework = "ignite"

    def __init__(self, handlers: Sequence[Any]) -> None:
        self._train: Callable[[Engine, Any], Any] | None = None
        self._engine = Engine(self._process)
        self._evaluator: Engine | None = None
        for handler in handlers:
            handler.attach(self._engine)

    def __getstate__(self) -> dict[str, Any]:
        """Copy the engine; what is bound to it would act on this one, not on the copy.

        Raises:
            ConfigError: If handlers are bound to it.
        """
        attached = bound(self._engine)
        if attached:
            raise ConfigError(
                f"an Engine cannot be copied with its handlers ({', '.join(attached)}): they are bound to this one.",
                hint="copy the trainer before create_trainer(), and attach them to the engine of the copy.",
            )
        return vars(self)

    @property
    def native(self) -> Engine:
        """The engine that trains, or that evaluated last if nothing was trained."""
        return self._engine if self._train is not None or self._evaluator is None else self._evaluator

    def _process(self, engine: Engine, batch: Any) -> Any:
        if self._train is None:
            raise ConfigError("this engine was made by create_trainer(); run it through trainer.fit(spec, loader).")
        return self._train(engine, batch)

    def fit(self, job: FitJob) -> None:
        """Train.

        Raises:
            ConfigError: If the engine has a handler of EXCEPTION_RAISED: it would swallow errors, and training go on.
        """
        self._refuse_swallowed_errors()
        program = FitProgram(job, torch_primitives(job.config.precision, job.device), self._engine)
        validator = None if program.validation is None else Evaluator(program.validation, job.spec.model)
        loop = TrainingLoop(program, validator)
        loop.attach(self._engine)
        self._train = loop.process
        job.hub.relay = self._relay
        epochs = sys.maxsize if job.config.epochs is None else job.config.epochs
        if job.resume is not None:
            length = None if job.reload is not None else job.train.length
            within = job.resume.in_epoch if job.resume.midway else 0
            done = job.hub.state.batch if length is None else job.resume.epochs_done * length + within
            self._resume(job.resume, done, epochs)
            self._engine.state.epoch_length = program.batches.every_length  # below 0.5.5 it must be as in the state
        with running(self._engine):
            self._engine.run(
                program.batches,
                max_epochs=sys.maxsize if epochs is None else epochs,
                epoch_length=program.batches.every_length,
            )
        if self._engine.should_terminate:
            job.hub.request_stop(why_terminated(self._engine))  # a native handler called engine.terminate()

    def _relay(self, event: CustomEvent) -> None:
        """Tell the engine's own handlers, if it knows the event by ``engine.register_events``."""
        if heard(self._engine, event):
            self._engine.fire_event(event)

    def _refuse_swallowed_errors(self) -> None:
        if heard(self._engine, Events.EXCEPTION_RAISED):
            raise ConfigError(
                "the engine has a handler of Events.EXCEPTION_RAISED, which swallows errors, and training goes on.",
                hint="handle unitrain's Event.EXCEPTION; the error is raised after it.",
            )

    def host(self, guest: Guest) -> None:
        """Run the guest's training from its start to its end.

        Raises:
            ConfigError: If the engine has a handler of EXCEPTION_RAISED: it would swallow errors, and training go on.
        """
        self._refuse_swallowed_errors()
        loop = GuestLoop(guest)
        self._train = loop.process
        loop.attach(self._engine)
        with running(self._engine):
            self._engine.run(loop, max_epochs=sys.maxsize)

    def each(self, batches: Iterable[Any], step: Callable[[Any], Any]) -> None:
        """Call ``step`` with each of ``batches`` in an engine of its own."""
        self._evaluator = engine = Engine(lambda _, batch: step(batch))  # a guest may evaluate before it trains
        with running(engine):
            engine.run(batches, max_epochs=1)

    def _resume(self, progress: Progress, batches: int, epochs: int) -> None:
        """Bring the engine's own counters to where the earlier run stood; unitrain's loader wrapper skips the data.

        Ignite takes a run for done by its iterations, so they are those of epochs as long as they are now.
        """
        state = self._engine.state
        state.epoch, state.iteration, state.max_epochs = progress.epochs_done, batches, epochs

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test."""
        self._evaluate(job)

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""
        return self._evaluate(job)

    def _evaluate(self, job: EvalJob) -> list[Any]:
        program = EvalProgram(job, self._engine, forward_context(job.config.precision, job.device))
        evaluator = Evaluator(program.evaluation, job.spec.model)
        self._engine = program.native = evaluator.engine
        return evaluator.run()
