"""THE SEAM between unitrain and a backend: Adapter, Run, and the Program that a backend's loop drives.

An adapter translates; a run owns one real ``Trainer`` or ``Engine`` and lends its loop. What training *means* is the
program's: ``unitrain.loop.fit.FitProgram`` for a spec; a framework's own code brings another. Start reading at Program.
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
        native: The backend's own argument or hook; empty if it has no part in it.
        shared: The part of unitrain that does it, and why; empty if the backend does it all.
    """

    native: str = ""
    shared: str = ""


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """One training run, checked and ready.

    Attributes:
        spec: What to train; the model is on ``device`` already.
        config: How.
        hub: Whose events to fire.
        train: The training data.
        val: The validation data, one source a loader; empty if there is none.
        optimizers: By name.
        schedules: The learning-rate schedules.
        device: Where it runs.
        callbacks: unitrain's callbacks by the name under which a checkpoint keeps their state.
        team: The processes that train together.
        sharded: The model, if each process has a part of it.
        reload: Returns the job with loaders that are recreated for an epoch; None if they are kept.
        rng_at_load: The global generators before the loaders were made, if they are to be recreated.
        loss_before: By the name of each part of the loss's state, whether what it is given is as before the run.
        resume: Where an earlier run stood, if this one continues with it; model, optimizers, schedules, hub
            and callbacks have been brought there already.
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
    """One evaluation or prediction, checked and ready; the fields are FitJob's, ``data`` has one source a loader.

    Attributes:
        keep: Whether predictions are returned; if not, handlers alone see them.
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
        NEXT: Go on, with the next batch or, at an epoch's end, with the next epoch.
        VALIDATE: Run the program's ``validation``, then ask ``batch_done`` again.
        END_EPOCH: That was the epoch's last batch.
        END_FIT: The run is to stop: end the epoch, if one is running, and then the fit.
        COMPLETE: All epochs were run. A framework that counts epochs ends itself; any other loop ends here.
    """

    NEXT = auto()
    VALIDATE = auto()
    END_EPOCH = auto()
    END_FIT = auto()
    COMPLETE = auto()


class EpochBatches(Protocol):
    """What a loop iterates once per epoch; nothing is read or drawn before the first batch is asked for.

    Attributes:
        sized: Whether each epoch has ``length`` batches; if not, a verdict ends it.
        length: The number of batches of the epoch, as far as it is known.
    """

    @property
    def sized(self) -> bool: ...  # noqa: D102

    @property
    def length(self) -> int | None: ...  # noqa: D102

    def __iter__(self) -> Iterator[Any]: ...


class EvaluationProgram(Protocol):
    """An evaluation as a loop drives it: ``start``, ``batch`` with each of ``batches``, ``end``.

    Attributes:
        stage: Which one it is.
        model: What to put into eval mode, with gradients off; None if the program sees to both itself.
        batches: Those of all its loaders.
        metrics: What was measured by its end, by full name.
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
    """A training as a loop drives it: a spec's fit, or another framework's own code.

    A loop, with nothing of a framework around it, is this::

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
        foreign: Whether it is another framework's, which sees to devices, modes and gradients itself: a backend
            leaves its modules alone.
        model: What it trains, as far as it is known; a backend's own checkpoints hold it.
        optimizers: What it trains with, as far as they are known, by name.
        schedules: Their learning-rate schedules; the program steps them.
        max_epochs: Epochs at most; None if only a verdict ends the fit.
        batches: Those of the running epoch.
        validation: What ``Verdict.VALIDATE`` asks for; None if it never does.
        output: What the last step gave.
        last: Whether the last batch was its epoch's last.
        metrics: The newest values, for a framework's own callbacks.
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
        """Begin; END_FIT or COMPLETE if there is nothing to do."""

    def epoch_start(self) -> None:
        """Begin an epoch."""

    def train_batch(self, batch: Any) -> Verdict:
        """Train on a batch."""

    def batch_done(self) -> Verdict:
        """End the batch after the framework's own callbacks and validation; a callback may have asked for a stop.

        Returns:
            What is next. VALIDATE only if a callback asked for a stop, before which a validation is due.
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

    ``unitrain.loop.backend.BackendRun`` has all of it but the loop of a program. Two of the methods are loops, and run
    what they are given. Two take a job and make a program of it, or train themselves, as the oracle does.
    """

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``; None if there is none."""

    def run(self, program: Program) -> None:
        """Train: the loop."""

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Evaluate: the loop. Return what each batch gave, if it is a prediction."""

    def fit(self, job: FitJob) -> None:
        """Train a spec, firing the hub's events; metrics are published to the hub."""

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict a spec; metrics are published to the hub, predictions are returned, one a batch."""

    def lent_to(self, data: Any) -> AbstractContextManager[None]:  # noqa: ARG002 - most frameworks have no such thing
        """Let a framework's own datamodule see the native object meanwhile."""
        return nullcontext()


class Adapter(Protocol):
    """A backend; a subclass states ``name``, ``features`` and the tables, and makes a run.

    Attributes:
        name: Its name, the entry point's.
        requires: What must be installed, as PEP 508 requirements.
        packages: The framework's import names, by which its callbacks are known.
        features: The one source of truth for what it supports.
        events: Which native hook or event drives each of ours.
        unmapped: Each native hook or event that drives none, with the reason.
        options: What each of the trainer's arguments becomes, but for those of features that it does not declare.
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
        """Make the real backend object.

        Args:
            config: The trainer's arguments.
            device: Where to run.
            callbacks: The native callbacks the user gave.
            team: The processes that run together.

        Raises:
            ConfigError: If a native argument is unknown or unitrain's own.
        """

    def accepts_callback(self, callback: object) -> bool:  # noqa: ARG002 - a backend may have none
        """Return whether ``callback`` is a native one of this backend."""
        return False
