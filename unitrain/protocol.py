"""THE SEAM between unitrain and a backend: Adapter, Run, Feature and the jobs that pass through it.

An adapter translates; a run owns one real ``Trainer`` or ``Engine``. What training *means* is not decided here: an
adapter calls ``unitrain.program``, or, as the reference does, shows that it means the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from unitrain.distributed.team import ALONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch.optim import Optimizer

    from unitrain.callbacks import Callback
    from unitrain.checkpoint.ranks import Progress
    from unitrain.config import TrainerConfig
    from unitrain.data import DataSource
    from unitrain.distributed.sharded import Sharded
    from unitrain.distributed.team import Team
    from unitrain.events import Event, EventHub
    from unitrain.optimization import Schedule
    from unitrain.spec import TrainSpec


class Feature(StrEnum):
    """What a backend may support. What it does not declare is refused by name before anything runs."""

    TRAINING = "training"
    EVALUATION = "validation and test"
    PREDICTION = "prediction"
    MANUAL_OPTIMIZATION = "manual optimization"
    CLOSURE_OPTIMIZERS = "optimizers with a closure (LBFGS)"
    ACCUMULATION = "gradient accumulation"
    CLIPPING = "gradient clipping"
    NATIVE_ARGUMENTS = "native arguments"
    NATIVE_CALLBACKS = "native callbacks"
    AUTOMATIC_CALLBACKS = "native callbacks that insist on Lightning's automatic optimization"
    GPU = "one GPU"
    PRECISION = "precision other than 32-true"
    COMPILE = "torch.compile"
    DEVICES = "several devices or hosts"
    SHARDING = "sharded parameters (FSDP)"
    CHECKPOINTS = "portable checkpoints"
    TRACKERS = "trackers"
    NATIVE_CODE = "LightningModules and Ignite engines as they are"


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
"""What the shared parts give to every backend that lets them run its steps."""


class Stage(StrEnum):
    """An evaluation; the value is the prefix of its metrics."""

    VAL = "val"
    TEST = "test"
    PREDICT = "predict"


class Translation(NamedTuple):
    """What an option became.

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
        val: The validation data, or None.
        optimizers: By name.
        schedules: The learning-rate schedules.
        device: Where it runs.
        callbacks: unitrain's callbacks by the name under which a checkpoint keeps their state.
        team: The processes that train together.
        sharded: The model, if each process has a part of it.
        resume: Where an earlier run stood, if this one goes on with it; model, optimizers, schedules, hub and callbacks
            have been brought there already.
    """

    spec: TrainSpec
    config: TrainerConfig
    hub: EventHub
    train: DataSource
    val: DataSource | None
    optimizers: Mapping[str, Optimizer]
    schedules: Sequence[Schedule]
    device: torch.device
    callbacks: Mapping[str, Callback]
    team: Team = ALONE
    sharded: Sharded | None = None
    resume: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class EvalJob:
    """One evaluation or prediction, checked and ready; the fields are FitJob's."""

    spec: TrainSpec
    config: TrainerConfig
    hub: EventHub
    data: DataSource
    stage: Stage
    device: torch.device
    team: Team = ALONE


class Run(Protocol):
    """One real backend object, ready to work.

    Attributes:
        framework: The name of the backend whose engine runs the steps.
    """

    framework: str

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``."""

    def fit(self, job: FitJob) -> None:
        """Train, firing the hub's events; metrics are published to the hub."""

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test; metrics are published to the hub."""

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""


class Adapter(Protocol):
    """A backend.

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
    requires: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]]
    features: ClassVar[frozenset[Feature]]
    events: ClassVar[Mapping[Event, str]]
    unmapped: ClassVar[Mapping[str, str]]
    options: ClassVar[Mapping[str, Translation]]

    def build(self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any], team: Team = ALONE) -> Run:
        """Make the real backend object.

        Args:
            config: The trainer's arguments.
            device: Where to run.
            callbacks: The native callbacks the user gave.
            team: The processes that run together.

        Raises:
            ConfigError: If a native argument is unknown or unitrain's own.
        """

    def accepts_callback(self, callback: object) -> bool:
        """Return whether ``callback`` is a native one of this backend."""
