"""The interface between unitrain and a backend: Adapter, Run, and the Program that a backend's loop drives.

An adapter translates options; a run owns one real ``Trainer`` or ``Engine`` and its loop. The program defines what
training *means*: ``unitrain.loop.fit.FitProgram`` for a spec; a framework's own code has another. Start reading at
Program.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from unitrain.distributed.collectives import SINGLE_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import torch
    from torch import nn
    from torch.optim import Optimizer

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives
    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.optim.schedules import Schedule
    from unitrain.run.hub import Event, EventHub
    from unitrain.run.progress import Progress
    from unitrain.spec import TrainSpec


class Feature(StrEnum):
    """The features of a backend; using an undeclared one raises before training."""

    TRAINING = "training"
    EVALUATION = "validation and test"
    PREDICTION = "prediction"
    MANUAL_OPTIMIZATION = "manual optimization"
    CLOSURE_OPTIMIZERS = "optimizers with a closure (LBFGS)"
    ACCUMULATION = "gradient accumulation"
    CLIPPING = "gradient clipping"
    NATIVE_ARGUMENTS = "native arguments"
    NATIVE_CALLBACKS = "native callbacks"
    AUTOMATIC_CALLBACKS = "native callbacks that require Lightning's automatic optimization"
    GPU = "one GPU"
    PRECISION = "precision other than 32-true"
    COMPILE = "torch.compile"
    DEVICES = "several devices or hosts"
    SHARDING = "sharded parameters (FSDP)"
    CHECKPOINTS = "portable checkpoints"
    TRACKERS = "trackers"
    NATIVE_CODE = "unchanged LightningModules and Ignite engines"


ONE_DEVICE = frozenset(
    {
        Feature.TRAINING,
        Feature.EVALUATION,
        Feature.PREDICTION,
        Feature.MANUAL_OPTIMIZATION,
        Feature.CLOSURE_OPTIMIZERS,
        Feature.ACCUMULATION,
        Feature.CLIPPING,
        Feature.GPU,
        Feature.PRECISION,
        Feature.COMPILE,
        Feature.CHECKPOINTS,
        Feature.TRACKERS,
    }
)
"""Features of every backend that uses the shared step."""


class Stage(StrEnum):
    """An evaluation; the value is the prefix of its metrics."""

    VAL = "val"
    TEST = "test"
    PREDICT = "predict"


class Translation(NamedTuple):
    """How a backend implements an option.

    Attributes:
        native: The backend's own argument or hook; empty if it is not involved.
        shared: The part of unitrain that implements it, and why; empty if the backend does everything.
    """

    native: str = ""
    shared: str = ""


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """One training run, checked and ready.

    Attributes:
        spec: What to train; the model is already on ``device``.
        config: How to train.
        hub: The hub whose events to fire.
        train: The training data.
        val: The validation data, one source per loader; empty if there is none.
        optimizers: The optimizers by name.
        schedules: The learning-rate schedules.
        device: The device of the run.
        callbacks: unitrain's callbacks, by the name of their state in a checkpoint.
        team: The processes that train together.
        sharded: The sharded model, if each process has a part of it.
        reload: Returns the job with loaders that are recreated for an epoch; None if they are kept.
        rng_at_load: State of the global generators before the loaders were created, if loaders are recreated.
        loss_before: Functions that tell whether a part of the loss's state is as before the run, by its name.
        resume: Progress of the resumed run, if any; model, optimizers, schedules, hub and callbacks are already
            restored.
    """

    spec: TrainSpec
    config: TrainerConfig
    hub: EventHub
    train: DataSource
    val: Sequence[DataSource]
    optimizers: Mapping[str, Optimizer]
    schedules: Sequence[Schedule]
    device: torch.device
    callbacks: Mapping[str, Callback]
    team: Collectives = SINGLE_PROCESS
    sharded: Sharded | None = None
    reload: Callable[[FitJob, int], FitJob] | None = None
    rng_at_load: dict[str, Any] | None = None
    loss_before: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    resume: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class EvalJob:
    """One evaluation or prediction, checked and ready; fields as in FitJob, and ``data`` with one source per loader.

    Attributes:
        keep: Whether predictions are returned; otherwise only handlers see them.
    """

    spec: TrainSpec
    config: TrainerConfig
    hub: EventHub
    data: Sequence[DataSource]
    stage: Stage
    device: torch.device
    team: Collectives = SINGLE_PROCESS
    sharded: Sharded | None = None
    keep: bool = True


class Verdict(Enum):
    """A program's instruction to the loop that drives it.

    Attributes:
        NEXT: Continue with the next batch or, at an epoch's end, with the next epoch.
        VALIDATE: Run the program's ``validation``, then ask ``batch_done`` again.
        END_EPOCH: The batch was the last of its epoch.
        END_FIT: Stop: end the epoch, if one is running, and then the fit.
        COMPLETE: All epochs are done. A framework that counts epochs ends by itself; any other loop ends here.
    """

    NEXT = auto()
    VALIDATE = auto()
    END_EPOCH = auto()
    END_FIT = auto()
    COMPLETE = auto()


class EpochBatches(Protocol):
    """The iterable of a loop, iterated once per epoch; nothing is read or drawn before the first batch is requested.

    Attributes:
        sized: Whether each epoch has ``length`` batches; otherwise a verdict ends it.
        length: Number of batches of the epoch, if known.
    """

    @property
    def sized(self) -> bool: ...  # noqa: D102

    @property
    def length(self) -> int | None: ...  # noqa: D102

    def __iter__(self) -> Iterator[Any]: ...


class EvaluationProgram(Protocol):
    """An evaluation, driven by a loop: ``start``, ``batch`` for each of ``batches``, ``end``.

    Attributes:
        stage: The stage.
        model: The model to put into eval mode with gradients off; None if the program does both itself.
        batches: The batches of all its loaders.
        metrics: The metrics, by full name, once it has ended.
    """

    @property
    def stage(self) -> Stage: ...  # noqa: D102

    @property
    def model(self) -> nn.Module | None: ...  # noqa: D102

    @property
    def batches(self) -> EpochBatches: ...  # noqa: D102

    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102

    def start(self) -> None:
        """Begin."""

    def batch(self, batch: Any) -> Any:
        """Evaluate a batch; return the prediction, if it is one."""

    def end(self) -> None:
        """End."""


class Program(Protocol):
    """A training, driven by a loop: a spec's fit, or another framework's own code.

    Without a framework, the loop is::

        verdict = program.start()
        while verdict is Verdict.NEXT:
            program.epoch_start()
            for batch in program.batches:
                verdict = program.train_batch(batch)
                if verdict is Verdict.VALIDATE:
                    evaluate(program.validation)
                if program.batch_done() is not Verdict.NEXT:
                    break
            verdict = program.epoch_end()
        program.end()

    Attributes:
        foreign: Whether it is another framework's own code, which manages devices, modes and gradients itself: a
            backend leaves its modules alone.
        model: The trained model, if known; a backend's own checkpoints contain it.
        optimizers: The optimizers by name, if known.
        schedules: Their learning-rate schedules; the program steps them.
        max_epochs: Maximum number of epochs; None if only a verdict ends the fit.
        batches: The batches of the running epoch.
        validation: The evaluation to run on ``Verdict.VALIDATE``; None if there is none.
        output: The output of the last step.
        last: Whether the last batch was the last of its epoch.
        metrics: The latest values, for a framework's own callbacks.
    """

    foreign: bool
    output: Any
    last: bool

    @property
    def model(self) -> nn.Module: ...  # noqa: D102

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...  # noqa: D102

    @property
    def schedules(self) -> Sequence[Schedule]: ...  # noqa: D102

    @property
    def max_epochs(self) -> int | None: ...  # noqa: D102

    @property
    def batches(self) -> EpochBatches: ...  # noqa: D102

    @property
    def validation(self) -> EvaluationProgram | None: ...  # noqa: D102

    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102

    def start(self) -> Verdict:
        """Begin; return END_FIT or COMPLETE if there is nothing to do."""

    def epoch_start(self) -> None:
        """Begin an epoch."""

    def train_batch(self, batch: Any) -> Verdict:
        """Train on a batch."""

    def batch_done(self) -> Verdict:
        """End the batch after the framework's own callbacks and validation; a callback may have asked for a stop.

        Returns:
            The next verdict. VALIDATE only if a callback requested a stop, before which a validation is due.
        """

    def epoch_end(self) -> Verdict:
        """End an epoch."""

    def end(self) -> None:
        """End."""

    def stopped(self, reason: str) -> None:
        """Record that a native callback stopped the run.

        Args:
            reason: One of ``unitrain.run.stopping.REASONS``.
        """


class Run(Protocol):
    """One real backend object, ready to work.

    ``unitrain.loop.backend.BackendRun`` implements all of it except the loop of a program. ``run`` and
    ``run_evaluation`` are loops that drive a program. ``fit`` and ``evaluate`` create a program from a job, or train
    themselves, as the reference does.
    """

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``; None if there is none."""

    def run(self, program: Program) -> None:
        """Drive a training."""

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Drive an evaluation; return the predictions, if any."""

    def fit(self, job: FitJob) -> None:
        """Train a spec, firing the hub's events; metrics are published to the hub."""

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict a spec; metrics go to the hub, predictions are returned, one per batch."""

    def lent_to(self, data: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - most frameworks have no such thing
        """Give a framework's own datamodule access to the native object meanwhile."""
        return nullcontext()


class Adapter(Protocol):
    """A backend. A subclass sets ``name``, ``features`` and the tables, and builds a run.

    Attributes:
        name: Name of the backend and of its entry point.
        requires: The required packages, as PEP 508 requirements.
        packages: The framework's import names, which identify its callbacks.
        features: The supported features.
        events: The native hook or event for each Event.
        unmapped: The native hooks or events without an Event, with the reason.
        options: How each trainer argument is implemented, except those of undeclared features.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    features: ClassVar[frozenset[Feature]]
    events: ClassVar[Mapping[Event, str]]
    unmapped: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Mapping[str, Translation]]

    def build(
        self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any], team: Collectives = SINGLE_PROCESS
    ) -> Run:
        """Create the real backend object.

        Args:
            config: The trainer's arguments.
            device: The device of the run.
            callbacks: The user's native callbacks.
            team: The processes that run together.

        Raises:
            ConfigError: If a native argument is unknown or set by unitrain.
        """

    def accepts_callback(self, callback: object) -> bool:  # noqa: ARG002 - a backend may have none
        """Return whether ``callback`` is a native callback of this backend."""
        return False
