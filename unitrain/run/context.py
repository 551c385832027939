"""The run context that handlers receive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Never, ParamSpec, Protocol, TypeVar

from unitrain.compat.other_names import RUN
from unitrain.errors import ConfigError, SpecError, no_attribute
from unitrain.metrics.metric import clash, full_name, reserved
from unitrain.run.events import require_custom
from unitrain.run.saves import InParts
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from torch.amp import GradScaler
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives, Reduction
    from unitrain.optim.schedules import Schedule
    from unitrain.run.events import CustomEvent
    from unitrain.run.hub import EventHub, RunState
    from unitrain.spec import TrainSpec


P = ParamSpec("P")
T = TypeVar("T")

STAGES = ("train", "val", "test")


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


class _Evaluated(Protocol):
    """A loader that a run evaluates on.

    Attributes:
        stage: ``"val"``, ``"test"`` or ``"predict"``.
        prefix: The first part of its metrics' names: the stage, and the loader's name if there are several.
    """

    @property
    def stage(self) -> str: ...

    @property
    def prefix(self) -> str: ...


class _Job(Protocol):
    """The parts of a fit or an evaluation that a run shows; see ``unitrain.backends.protocol``."""

    @property
    def hub(self) -> EventHub: ...

    @property
    def spec(self) -> TrainSpec: ...

    @property
    def config(self) -> TrainerConfig: ...

    @property
    def team(self) -> Collectives: ...


def _prefixes(job: _Job) -> Iterator[str]:
    """Yield the prefixes of all that is measured; with several loaders, not the stage alone."""
    evaluated: Sequence[_Evaluated] = getattr(job, "val", ()) or getattr(job, "data", ())
    yield from (source.prefix for source in evaluated)
    yield from (stage for stage in STAGES if all(source.stage != stage for source in evaluated))


class RunContext(ABC):
    """The run, as passed to handlers, callbacks and manual training steps; the same on every backend.

    Attributes:
        hub: The event hub of the run.
        spec: The spec that is trained.
        config: The trainer's options.
        optimizers: The optimizers by name; a single one is called ``"optimizer"``.
        schedules: The learning-rate schedules; a callback that sets rates itself pauses them.
        native: The real ``Trainer`` or ``Engine``; None on the reference.
        batch: The current batch, of training or of an evaluation; None between batches.
        prediction: The prediction for the current batch, for handlers of PREDICT_BATCH_END.
        loader_name: Name of the current batch's loader in an evaluation of several loaders; else None.
        team: The processes that run together.
        exception: The error of a failed run, for handlers of EXCEPTION.
        accumulate_grad_batches: Number of batches per optimizer step; a callback may set it at EPOCH_START, for the
            epoch.
        at_rest: Whether the run has ended, so that a checkpoint is written at once.
        scaler: The gradient scaler of a fit with ``precision="16-mixed"``; else None. Its scale decreases after a step
            that was skipped because a gradient was not finite.

    Example:
        >>> def keep_halfway(run):
        ...     if run.state.step == 2:
        ...         run.save_checkpoint("halfway.ckpt")
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
        >>> _ = trainer.on(Event.BATCH_END, keep_halfway)
        >>> _ = trainer.fit(spec, batches)
        >>> load_weights("halfway.ckpt").keys()
        dict_keys(['weight', 'bias'])
    """

    scaler: GradScaler | None = None
    batch: Any = None
    loader_name: str | None = None
    prediction: Any = None

    def __init__(self, job: _Job, native: Any) -> None:
        self.hub = job.hub
        self.spec = job.spec
        self.config = job.config
        self.team = job.team
        self.optimizers: Mapping[str, Optimizer] = getattr(job, "optimizers", {})  # an evaluation has none
        self.schedules: Sequence[Schedule] = getattr(job, "schedules", ())
        self.native = native
        self.exception: BaseException | None = None
        self.accumulate_grad_batches = job.config.accumulate_grad_batches
        self.at_rest = False
        self._reserved = frozenset().union(*(reserved(one, job.spec.metrics or ()) for one in _prefixes(job)))
        job.hub.context = self

    def __repr__(self) -> str:
        """Return the run's position."""
        state = self.state
        return f"<run at epoch={state.epoch}, step={state.step}, batch={state.batch}>"

    if not TYPE_CHECKING:  # for a type checker, only what is defined exists

        def __getattr__(self, name: str) -> Never:
            """Raise AttributeError, with the nearest attribute."""
            raise no_attribute(self, name, "the run", RUN)

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self.team.rank

    @property
    def world_size(self) -> int:
        """Number of processes of the run."""
        return self.team.size

    def all_reduce(self, value: Tensor | float, op: Reduction = "mean") -> Tensor | float:
        """Return the mean, sum, max or min of a value over all processes; all must call it."""
        return self.team.all_reduce(value, op)

    def all_gather(self, value: Tensor) -> Tensor:
        """Return the tensors of all processes, of shape ``(world_size, *value.shape)``; all must call it."""
        return self.team.all_gather(value)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.team.barrier()

    def rank_zero_only(self, function: Callable[P, T]) -> Callable[P, T | None]:
        """Return ``function`` on rank 0, and a no-op elsewhere: ``run.rank_zero_only(print)("once")``."""
        return function if self.rank == 0 else _nothing

    @property
    def model(self) -> nn.Module:
        """The user's module."""
        return self.spec.model

    @property
    def epoch_length(self) -> int | None:
        """Number of training batches of an epoch, or None if unknown."""
        return self.hub.epoch_length

    @property
    def state(self) -> RunState:
        """The counters and the latest values."""
        return self.hub.state

    def name_of(self, prefix: str, name: str) -> str:
        """Return the full name of a logged value.

        Raises:
            SpecError: If the spec already measures something under that name.
        """
        full = full_name(prefix, name)
        if full in self._reserved:
            raise clash(full)
        return full

    def save_checkpoint(self, path: str | Path, *, sharded: bool = False) -> None:
        """Write a portable checkpoint once the running batch and its validation are done.

        After an epoch's last batch it is written at the epoch's very end. It resumes with identical
        results, so it cannot be written in the middle of a batch.

        Args:
            path: The file to write. An existing file is replaced once the new one is complete.
            sharded: Whether to make ``path`` a folder into which each process writes its shards.
        """
        path = user_path(path).absolute()  # it may be written after an os.chdir
        self.hub.pending_checkpoints.append(InParts(path) if sharded else path)
        if self.at_rest:
            self.write_saves()

    def write_saves(self) -> None:
        """Write the checkpoints that were asked for; called where a run can be resumed from."""
        raise ConfigError(
            "checkpoints can only be saved during a fit.", hint="call run.save_checkpoint() in a handler of fit()."
        )

    def forward_epoch(self) -> None:
        """Run the training step's forward pass on each batch of an epoch of the training data, without gradients.

        It computes no metrics and does not change the random number generators or the position of the data. Use it at
        FIT_END, when no epoch is running.

        Raises:
            ConfigError: If the run is an evaluation.
        """
        raise ConfigError("an evaluation has no training data.", hint="call run.forward_epoch() in a handler of fit().")

    def stop(self) -> None:
        """Request a stop: the current batch is finished, validation and EPOCH_END follow, then the run ends."""
        self.hub.request_stop("user")

    def fire(self, event: CustomEvent) -> None:
        """Fire a custom event: its handlers are called at once, in registration order.

        Only handlers of this process are called.

        Args:
            event: A ``CustomEvent``.

        Raises:
            SpecError: If it is anything else.
        """
        self.hub.fire_custom(require_custom(event))

    @abstractmethod
    def log(self, name: str, value: Tensor | float) -> None:
        """Log a value as ``<stage>/<name>``; a name with a slash is unchanged.

        Within a batch, the value enters the epoch's mean, weighted by batch size. Elsewhere it is logged immediately.
        """

    def log_figure(self, name: str, figure: Any) -> None:
        """Send a matplotlib figure to all trackers that support figures, at the current step.

        Args:
            name: Full name of the figure; slashes create folders, as in ``"val/confusion"``.
            figure: A ``matplotlib.figure.Figure``; it may be redrawn or closed afterwards.

        Raises:
            SpecError: If ``figure`` is not a figure, or the name is not a valid file name.
        """
        parts = name.split("/") if isinstance(name, str) else [""]
        if any(part in ("", ".", "..") or "\\" in part for part in parts):
            raise SpecError(
                f"the name of a figure must be usable as a file name; got {name!r}.",
                hint='run.log_figure("val/confusion", figure)',
            )
        if isinstance(figure, type) or not callable(getattr(figure, "savefig", None)):
            raise SpecError(
                f"run.log_figure({name!r}, ...) takes a matplotlib figure; got a {type(figure).__name__}.",
                hint="figure, axes = matplotlib.pyplot.subplots()",
            )
        if self.hub.trackers is not None:
            self.hub.trackers.log_figure(name, figure)

    @abstractmethod
    def batch_values(self) -> dict[str, float]:
        """Read the loss and the logged values of the running training batch from the device, under their full names."""

    @abstractmethod
    def logged_values(self) -> Mapping[str, Tensor | float]:
        """Return the values that the running training batch has logged, unread, by their names without the stage."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Compute gradients, for manual optimization."""

    @abstractmethod
    def step(self, name: str | None = None) -> None:
        """Clip, step and clear the gradients of one optimizer, for manual optimization.

        Args:
            name: Key of the optimizer in ``TrainSpec(optimizer={...})``; optional if there is only one. Gradients that
                a loss left in parameters of *other* optimizers remain: clear them with
                ``run.optimizers[other].zero_grad()``.
        """
