"""THE SEAM between unitrain and a backend: Adapter, Run, Feature and the jobs that pass through it.

An adapter translates; a run owns one real ``Trainer`` or ``Engine``. What training *means* is not decided here: an
adapter calls ``unitrain.loop.fit``, or, as the reference does, shows that it means the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from unitrain.distributed.collectives import SINGLE_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from torch import nn
    from torch.optim import Optimizer

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives
    from unitrain.distributed.strategies.fsdp import Sharded
    from unitrain.optim.optimizers import Schedule
    from unitrain.run.hub import Event, EventHub
    from unitrain.run.progress import Progress
    from unitrain.run.result import FitResult
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
        val: The validation data, one source a loader; empty if there is none.
        optimizers: By name.
        schedules: The learning-rate schedules.
        device: Where it runs.
        callbacks: unitrain's callbacks by the name under which a checkpoint keeps their state.
        team: The processes that train together.
        sharded: The model, if each process has a part of it.
        reload: Returns the job with loaders that are made anew for an epoch; None if they are kept.
        rng_at_load: The global generators before the loaders were made, if they are to be made anew.
        resume: Where an earlier run stood, if this one goes on with it; model, optimizers, schedules, hub and callbacks
            have been brought there already.
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


class Guest(Protocol):
    """Another framework's program, cut into what a backend's own training loop calls.

    The calls are, in this order: ``start``; as long as it is not ``done``: ``epoch_start``, ``batch`` with each of
    ``batches()`` until the ``epoch_over``, ``epoch_end``; then ``end``. What the calls mean is the guest's own.

    Attributes:
        model: What the program trains, as far as it is known; a backend's own checkpoints hold it.
        optimizers: What it trains with, as far as they are known.
    """

    model: nn.Module
    optimizers: Sequence[Optimizer]

    def start(self) -> None:
        """Begin."""

    @property
    def done(self) -> bool:
        """Whether no further epoch is to run."""

    def epoch_start(self) -> None:
        """Begin an epoch."""

    def batches(self) -> Iterator[Any]:
        """Return the batches of the running epoch."""

    def batch(self, batch: Any) -> Any:
        """Train on a batch."""

    @property
    def epoch_over(self) -> bool:
        """Whether the batch just done was the epoch's last."""

    def epoch_end(self) -> None:
        """End an epoch."""

    def end(self) -> None:
        """End."""


class Host(Protocol):
    """A run whose loop runs another framework's program; a backend with ``Feature.NATIVE_CODE`` builds such runs."""

    framework: str

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``."""

    def host(self, guest: Guest) -> None:
        """Run the guest's training from its start to its end."""

    def each(self, batches: Iterable[Any], step: Callable[[Any], Any]) -> None:
        """Call ``step`` with each of ``batches`` in a loop of evaluation; ``step`` sees to modes and gradients."""


class Session(Protocol):
    """What runs one framework's own code for a trainer, from its first run on.

    Attributes:
        bridged: The trainer as that code sees it: a LightningModule's ``self.trainer``, or the Ignite engine.
    """

    bridged: Any

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine`` that ran the steps."""

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train; ``data`` is for training and for validation."""

    def evaluate(self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None) -> dict[str, float]:
        """Validate or test; without ``code``, that of the last run. None prints what the code's framework would."""

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Return the predictions, one item a batch; without ``code``, with that of the last run."""

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint in the form of the code's own framework."""

    def stop(self) -> None:
        """Ask the running fit to end, as the code's own framework does."""


class Bridge(Protocol):
    """Runs one framework's own code on any backend.

    Attributes:
        home: The name of the backend on which the code is at home; there nothing stands in between.
        upgrades: By the release that code was written for ("1.x"), what makes today's of it: ``(code) -> code``.
    """

    home: ClassVar[str]
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]]

    def open(self, adapter: Adapter, config: TrainerConfig) -> Session:
        """Return what runs such code on ``adapter``.

        Args:
            adapter: Whose engine is to run it.
            config: The trainer's arguments, as they were given.

        Raises:
            UnitrainError: If an argument cannot act there.
        """

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:
        """Return one of this framework's callbacks or handlers as a callback of unitrain, which every backend calls.

        Args:
            native: What was given.
            adapter: The backend that is to run, another than its own.

        Returns:
            The callback; None if ``native`` is none, or cannot be one by itself.

        Raises:
            UnsupportedFeatureError: If it works in its own framework's loops only.
        """

    def redirected(self, framework: str) -> AbstractContextManager[None]:
        """Let scripts of this framework that are run meanwhile, as they are, train on ``framework``."""


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

    def accepts_callback(self, callback: object) -> bool:
        """Return whether ``callback`` is a native one of this backend."""
