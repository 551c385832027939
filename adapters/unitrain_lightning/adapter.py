"""The Lightning backend."""

from __future__ import annotations

import inspect
import signal
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from unitrain.backends.features import refuse
from unitrain.backends.protocol import ONE_DEVICE, Feature, Stage, Translation
from unitrain.config import UNLIMITED
from unitrain.data.batch import to_device
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import ConfigError, did_you_mean
from unitrain.loop.backend import BackendRun
from unitrain.run.hub import Event
from unitrain_lightning._compat import REQUIRES, quietly, raise_interrupt, refuse_rich_bar
from unitrain_lightning.batched_steps import TEST, TRAINING, VALIDATION, may_batch_steps
from unitrain_lightning.entry_point_cache import remembered
from unitrain_lightning.events import EVENTS, UNMAPPED
from unitrain_lightning.module import EvalShell, FitShell, LightningBatches
from unitrain_lightning.namespace import is_a, namespace_of
from unitrain_lightning.options import OPTIONS, OWNED
from unitrain_lightning.precision import precision_plugin
from unitrain_lightning.primitives import LightningPrimitives
from unitrain_lightning.profiler import NullProfiler
from unitrain_lightning.strategy import TeamStrategy, leave_signals
from unitrain_lightning.tracking import TrackingLogger, hand_over, lent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch.optim import Optimizer

    from unitrain.backends.protocol import EvalJob, EvaluationProgram, FitJob, Program
    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives
    from unitrain.loop.precision import Context
    from unitrain.run.hub import EventHub
    from unitrain.run.progress import Progress
    from unitrain_lightning.namespace import Namespace


class LightningAdapter:
    """Runs a spec on a real ``Trainer``, of that one of Lightning's packages that the user's objects come from."""

    name: ClassVar[str] = "lightning"
    requires: ClassVar[tuple[str, ...]] = REQUIRES
    packages: ClassVar[tuple[str, ...]] = ("pytorch_lightning", "lightning")
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
        self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any], team: Collectives = SINGLE_PROCESS
    ) -> LightningRun:
        """Make the Trainer.

        Raises:
            ConfigError: If a native argument is unknown or unitrain's own, or objects come from both packages.
            VersionError: If the installed release cannot do what was asked.
        """
        given = dict(config.native.get(self.name, {})) if config.native else {}
        lightning = namespace_of((*callbacks, *_flat(given.values())), config.loggers)
        _check_native(lightning, given)
        _check_callbacks(self, lightning, callbacks)
        plugins = _plugins(lightning, config, device, given.pop("plugins", None))
        if team.world is None and not any(isinstance(one, lightning.ClusterEnvironment) for one in plugins):
            plugins.append(lightning.LightningEnvironment())  # else Lightning reads SLURM's variables again
        with quietly(), remembered(lightning.root):
            placed = _placed(lightning, config, device, team)
            profiler = lightning.made(NullProfiler)()
            made = {"profiler": profiler, **placed, **_arguments(lightning, config, callbacks), **given}
            trainer = lightning.Trainer(**{**_defaults(lightning.Trainer), **made, "plugins": plugins})
        if team.world is not None:
            leave_signals(trainer)
        return LightningRun(lightning, trainer, callbacks)

    def accepts_callback(self, callback: object) -> bool:
        """Return whether ``callback`` is a Lightning callback, of either of its packages."""
        return is_a(callback, "Callback")


_INSIST_ON_AUTOMATIC = {
    "StochasticWeightAveraging": "the callback EMA, or average the weights at Event.EPOCH_END.",
    "GradientAccumulationScheduler": "the callback GradientAccumulationSchedule.",
    "LearningRateFinder": "plain Lightning for the search, then pass lr=.",
    "BatchSizeFinder": "plain Lightning for the search, then pass batch_size=.",
}
"""Native callbacks that only work in automatic optimization, some of them silently, with alternatives."""


def _flat(given: Iterable[Any]) -> Iterator[Any]:
    """Yield the arguments of a Trainer, including items of lists."""
    for one in given:
        yield from one if isinstance(one, (list, tuple)) else (one,)


def _check_callbacks(adapter: LightningAdapter, lightning: Namespace, callbacks: Sequence[Any]) -> None:
    for callback in callbacks:
        refuse_rich_bar(callback, lightning.root)
        for cls in type(callback).__mro__:
            if cls.__name__ in _INSIST_ON_AUTOMATIC:
                raise refuse(
                    adapter,
                    Feature.AUTOMATIC_CALLBACKS,
                    f"the callback {type(callback).__name__}",
                    _INSIST_ON_AUTOMATIC[cls.__name__],
                )


def _check_native(lightning: Namespace, given: Mapping[str, Any]) -> None:
    accepted = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self", *OWNED}
    for name in given:
        if name in OWNED:
            raise ConfigError(
                f"native={{'lightning': {{{name!r}: ...}}}} is set by unitrain: {OWNED[name]}.",
                hint=f"accepted are {', '.join(sorted(accepted))}.",
            )
        if name not in accepted:
            raise ConfigError(
                f"native={{'lightning': {{{name!r}: ...}}}}: {lightning.root}.Trainer has no such argument.",
                hint=did_you_mean(name, accepted),
            )


def _plugins(lightning: Namespace, config: TrainerConfig, device: torch.device, given: Any) -> list[Any]:
    """Return the user's plugins, and a precision plugin unless one is among them.

    Raises:
        ConfigError: If the user's precision plugin scales the loss, or a precision was asked for besides.
    """
    plugins = list(given) if isinstance(given, (list, tuple)) else [given] if given is not None else []
    own = [plugin for plugin in plugins if isinstance(plugin, lightning.Precision)]
    if not own:
        return [*plugins, precision_plugin(lightning, config.precision, device)]
    if config.precision != "32-true" or any(getattr(plugin, "scaler", None) is not None for plugin in own):
        raise ConfigError(
            f"native={{'lightning': {{'plugins': ...}}}} contains {type(own[0]).__name__}, but unitrain's step"
            f" handles precision and loss scaling itself (precision={config.precision!r}).",
            hint='UnifiedTrainer(precision="16-mixed"), without the plugin.',
        )
    return plugins


def _arguments(lightning: Namespace, config: TrainerConfig, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return the Trainer's arguments: Lightning's own features, and switches that leave the rest to unitrain."""

    def given(kind: Any) -> bool:
        return any(isinstance(callback, kind) for callback in callbacks)

    epochs = config.epochs
    return {
        "max_epochs": UNLIMITED if epochs is None else epochs,
        "check_val_every_n_epoch": config.check_val_every_n_epoch,
        # Lightning sets the switch of torch again around each run
        "detect_anomaly": config.detect_anomaly or torch.is_anomaly_enabled(),
        "min_epochs": config.min_epochs,
        "min_steps": config.min_steps,
        "default_root_dir": str(config.default_root_dir),
        "callbacks": list(callbacks),
        "enable_checkpointing": given(lightning.Checkpoint),
        "enable_progress_bar": given(lightning.ProgressBar),
        "enable_model_summary": given(lightning.ModelSummary),
        "logger": lightning.made(TrackingLogger)(str(config.default_root_dir)) if config.loggers else False,
        "log_every_n_steps": config.log_every_n_steps,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "inference_mode": False,
    }


@cache
def _defaults(trainer: type) -> dict[str, Any]:
    """Return all arguments of a Trainer: it takes those that are not given from ``PL_TRAINER_*`` variables."""
    return {
        name: one.default
        for name, one in inspect.signature(trainer.__init__).parameters.items()  # type: ignore[misc]
        if one.default is not inspect.Parameter.empty
    }


def _placed(lightning: Namespace, config: TrainerConfig, device: torch.device, team: Collectives) -> dict[str, Any]:
    """Return the arguments that say where the Trainer runs."""
    if team.world is None:
        return {"accelerator": device.type, "devices": 1 if device.index is None else [device.index]}
    return {
        "accelerator": device.type,
        "devices": config.devices if isinstance(config.devices, list) else team.world.local_size,
        "num_nodes": team.world.hosts,
        "strategy": lightning.made(TeamStrategy)(team.world, config.plan.timeout),
    }


class LightningRun(BackendRun):
    """A run on one Trainer.

    Args:
        lightning: The package that the Trainer is of.
        trainer: The real Trainer.
        callbacks: The native callbacks that the user gave.
    """

    def __init__(self, lightning: Namespace, trainer: Any, callbacks: Sequence[Any]) -> None:
        self._lightning = lightning
        self._trainer = trainer
        self._callbacks = callbacks

    @property
    def native(self) -> Any:
        """The real Trainer."""
        return self._trainer

    def lent_to(self, data: Any) -> AbstractContextManager[None]:
        """Show the Trainer to a datamodule meanwhile, as ``self.trainer``."""
        return lent(self._trainer, data)

    def primitives(self, job: FitJob) -> LightningPrimitives:
        """Return the operations of a step: those of the Trainer's strategy and precision plugin."""
        return LightningPrimitives(self._lightning, self._trainer, self._callbacks, self.context(job))

    def context(self, job: FitJob | EvalJob) -> Context:
        """Return the plugin's own context; Lightning itself enters a user's plugin."""
        return None if job.config.precision == "32-true" else self._trainer.precision_plugin.forward_context

    def fit(self, job: FitJob) -> None:
        """Train a spec."""
        hand_over(self._trainer, job.hub)
        if job.resume is not None:
            _resume(self._trainer, job.resume, job.hub)
        with _model_left_as_it_was(job, job.optimizers.values()):
            super().fit(job)

    def run(self, program: Program) -> None:
        """Train in the Trainer's loop of a fit."""
        if program.foreign:  # its script has handlers of its own, or wants none
            leave_signals(self._trainer)
        shell, train = self._lightning.made(FitShell)(program), LightningBatches(program.batches)
        validation = None if program.validation is None else LightningBatches(program.validation.batches)
        shell.batch_steps(
            training=self._may_batch(TRAINING),
            validation=validation is not None and validation.sized and self._may_batch(VALIDATION),
        )
        if not program.foreign and not self._may_batch(("on_train_batch_end",)):
            shell.tell_loss()
        with self._running(), _steps_counted(self._trainer, program):
            self._trainer.fit(shell, train, validation)

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict a spec."""
        hand_over(self._trainer, job.hub)
        with _model_left_as_it_was(job):
            return super().evaluate(job)

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Evaluate in one of the Trainer's loops."""
        shell = self._lightning.made(EvalShell)(evaluation)
        batches = LightningBatches(evaluation.batches)
        if batches.sized and self._may_batch(VALIDATION + TEST):
            shell.batch_steps()
        with self._running():
            if evaluation.stage is Stage.PREDICT:
                return self._trainer.predict(shell, batches) or []
            run = self._trainer.validate if evaluation.stage is Stage.VAL else self._trainer.test
            run(shell, batches, verbose=False)
            return []

    @contextmanager
    def _running(self) -> Iterator[None]:
        with quietly(), _errors_as_they_are(self._trainer, self._lightning.root):
            yield

    def _may_batch(self, hooks: tuple[str, ...]) -> bool:
        return may_batch_steps(self._lightning, self._trainer, hooks)


@contextmanager
def _steps_counted(trainer: Any, program: Program) -> Iterator[None]:
    """Let the Trainer's ``global_step`` count a foreign program's steps: its checkpoints go by it.

    The steps of a spec go through the Trainer, which counts them.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def stepped(*_: Any) -> None:
        progress.increment_ready()
        progress.increment_completed()

    counted = program.optimizers.values() if program.foreign else ()
    hooks = [optimizer.register_step_post_hook(stepped) for optimizer in counted]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _resume(trainer: Any, progress: Progress, hub: EventHub) -> None:
    """Bring the loops' own counters to where the earlier run stood; unitrain's loader wrapper skips the data."""
    loop = trainer.fit_loop
    if loop.max_epochs == progress.epochs_done:  # only the run's end is left, and Lightning would not even begin
        loop.max_epochs += 1
    for tracker in (loop.epoch_progress.total, loop.epoch_progress.current):
        tracker.ready = tracker.started = tracker.processed = tracker.completed = progress.epochs_done
    batches = loop.epoch_loop.batch_progress.total
    batches.ready = batches.started = batches.processed = batches.completed = hub.state.batch
    steps = loop.epoch_loop.manual_optimization.optim_step_progress.total
    steps.ready = steps.completed = hub.occurred(Event.OPTIMIZER_STEP)


@contextmanager
def _model_left_as_it_was(job: FitJob | EvalJob, optimizers: Iterable[Optimizer] = ()) -> Iterator[None]:
    """Keep the model and its optimizers on their device, which Lightning empties, and free of the Trainer."""
    try:
        yield
    finally:
        modules: Iterator[Any] = job.spec.model.modules()
        for module in modules:
            if is_a(module, "LightningModule"):
                module._trainer = None  # noqa: SLF001 - there is no public way to detach one
        if job.device.type != "cpu":
            job.spec.model.to(job.device)
            for optimizer in optimizers:
                for state in optimizer.state.values():
                    # where torch counts steps is the optimizer's choice, and Lightning leaves it there
                    moved = {name: to_device(value, job.device) for name, value in state.items() if name != "step"}
                    state.update(moved)


@contextmanager
def _errors_as_they_are(trainer: Any, root: str) -> Iterator[None]:
    """Give back the interrupt and the signal that Lightning turns into an exit of the process, or swallows."""
    interrupt, terminate = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, interrupt)
            raise error.__context__ from None
        if type(error).__name__ == "SIGTERMException":  # else the process ends with the status of success
            signal.signal(signal.SIGTERM, terminate)
            signal.raise_signal(signal.SIGTERM)
        raise
    raise_interrupt(trainer, root)
