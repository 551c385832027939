"""The Ignite backend."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.backends.protocol import ONE_DEVICE, Feature, Translation
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import ConfigError
from unitrain.loop.backend import BackendRun
from unitrain.loop.evaluation import EvaluationRun
from unitrain_ignite._compat import REQUIRES, Engine, Events, Metric, bound, heard
from unitrain_ignite.events import EVENTS, UNMAPPED
from unitrain_ignite.module import Evaluator, TrainingLoop
from unitrain_ignite.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from unitrain.backends.protocol import EvalJob, EvaluationProgram, FitJob, Program
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
        team: Collectives = SINGLE_PROCESS,  # noqa: ARG002 - Ignite finds torch's process group itself
    ) -> IgniteRun:
        """Make the engine and attach the native handlers.

        Raises:
            ConfigError: If native arguments are given; ``Engine`` takes only the process function, which is unitrain's.
        """
        given = config.native.get(self.name, {}) if config.native else {}
        if given:
            raise ConfigError(
                f"native={{'ignite': ...}} got {', '.join(map(repr, given))}; ignite.engine.Engine only takes"
                f" process_function, which is unitrain's own step.",
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


class IgniteRun(BackendRun):
    """A run on one engine.

    Args:
        handlers: Ignite handlers, attached as they are.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self._loop = TrainingLoop()
        self._engine = Engine(self._loop.process)
        self._trained = False
        self._evaluator: Engine | None = None
        for handler in handlers:
            handler.attach(self._engine)

    def __getstate__(self) -> dict[str, Any]:
        """Copy the engine; objects bound to it would act on this one, not on the copy.

        Raises:
            ConfigError: If handlers are bound to it.
        """
        attached = bound(self._engine)
        if attached:
            raise ConfigError(
                f"an Engine cannot be copied with its handlers ({', '.join(attached)}), which are bound to it.",
                hint="copy the trainer before create_trainer(), and attach them to the engine of the copy.",
            )
        return vars(self)

    @property
    def native(self) -> Engine:
        """The engine that trains, or that evaluated last if nothing was trained."""
        return self._engine if self._trained or self._evaluator is None else self._evaluator

    def fit(self, job: FitJob) -> None:
        """Train a spec."""
        self._refuse_swallowed_errors()
        job.hub.relay = self._relay
        if job.resume is not None:
            self._resume(job, job.resume)
        super().fit(job)

    def run(self, program: Program) -> None:
        """Train on the engine.

        Raises:
            ConfigError: If the engine has a handler of EXCEPTION_RAISED: it would swallow errors, and training
                continue.
        """
        self._refuse_swallowed_errors()
        self._trained = True
        self._loop.run(self._engine, program)

    def _refuse_swallowed_errors(self) -> None:
        if heard(self._engine, Events.EXCEPTION_RAISED):
            raise ConfigError(
                "the engine has a handler of Events.EXCEPTION_RAISED, which swallows errors and lets training"
                " continue.",
                hint="handle unitrain's Event.EXCEPTION; the error is raised after it.",
            )

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict a spec."""
        run = EvaluationRun(job, None, self.context(job))
        evaluator = Evaluator(run.evaluation)
        self._evaluator = run.native = evaluator.engine
        return evaluator.run()

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Evaluate on an engine of its own."""
        evaluator = Evaluator(evaluation)
        self._evaluator = evaluator.engine
        return evaluator.run()

    def _relay(self, event: CustomEvent) -> None:
        """Fire the event for the engine's own handlers, if it is registered by ``engine.register_events``."""
        if heard(self._engine, event):
            self._engine.fire_event(event)

    def _resume(self, job: FitJob, progress: Progress) -> None:
        """Bring the engine's own counters to where the earlier run stood; unitrain's loader wrapper skips the data.

        Ignite takes a run for done by its iterations, so they are those of epochs as long as they are now.
        """
        length = None if job.reload is not None else job.train.length
        within = progress.in_epoch if progress.midway else 0
        state, epochs = self._engine.state, job.config.epochs
        state.epoch = progress.epochs_done
        state.iteration = job.hub.state.batch if length is None else progress.epochs_done * length + within
        state.max_epochs = sys.maxsize if epochs is None else epochs
        state.epoch_length = length
