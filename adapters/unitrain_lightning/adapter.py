"""The Lightning backend."""

from __future__ import annotations

import inspect
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.config import UNLIMITED
from unitrain.errors import ConfigError, did_you_mean
from unitrain.program import EvalProgram, FitProgram
from unitrain.protocol import Feature, Stage, Translation
from unitrain_lightning._compat import (
    REQUIRES,
    Callback,
    Checkpoint,
    ModelSummary,
    ProgressBar,
    Trainer,
    quietly,
)
from unitrain_lightning.events import EVENTS, UNMAPPED
from unitrain_lightning.module import EvalShell, FitShell, LightningBatches
from unitrain_lightning.options import OPTIONS, OWNED
from unitrain_lightning.primitives import LightningPrimitives
from unitrain_lightning.profiler import NullProfiler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from unitrain.config import TrainerConfig
    from unitrain.events import Event
    from unitrain.protocol import EvalJob, FitJob


class LightningAdapter:
    """Runs a spec on a real ``pytorch_lightning.Trainer``."""

    name: ClassVar[str] = "lightning"
    requires: ClassVar[tuple[str, ...]] = REQUIRES
    packages: ClassVar[tuple[str, ...]] = ("pytorch_lightning", "lightning")
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

    def build(self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any]) -> LightningRun:
        """Make the Trainer.

        Raises:
            ConfigError: If a native argument is unknown or unitrain's own.
        """
        given = dict(config.native.get(self.name, {})) if config.native else {}
        _check_native(given)
        with quietly():
            trainer = Trainer(**{"profiler": NullProfiler(), **_arguments(config, device, callbacks), **given})
        return LightningRun(trainer, callbacks)

    def accepts_callback(self, callback: object) -> bool:
        """Return whether ``callback`` is a Lightning callback."""
        return isinstance(callback, Callback)


def _check_native(given: Mapping[str, Any]) -> None:
    accepted = set(inspect.signature(Trainer.__init__).parameters) - {"self", *OWNED}
    for name in given:
        if name in OWNED:
            raise ConfigError(
                f"native={{'lightning': {{{name!r}: ...}}}} is an argument that unitrain owns: {OWNED[name]}.",
                hint=f"accepted are {', '.join(sorted(accepted))}.",
            )
        if name not in accepted:
            raise ConfigError(
                f"native={{'lightning': {{{name!r}: ...}}}}: pytorch_lightning.Trainer has no such argument.",
                hint=did_you_mean(name, accepted),
            )


def _arguments(config: TrainerConfig, device: torch.device, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return what the Trainer is made with: what Lightning does itself, and what it must leave to unitrain."""

    def given(kind: Any) -> bool:
        return any(isinstance(callback, kind) for callback in callbacks)

    epochs = config.epochs
    return {
        "accelerator": device.type,
        "devices": 1 if device.index is None else [device.index],
        "max_epochs": UNLIMITED if epochs is None else epochs,
        "val_check_interval": config.val_check_interval,
        "check_val_every_n_epoch": config.check_val_every_n_epoch,
        "detect_anomaly": config.detect_anomaly,  # Lightning sets the switch of torch anew around each run
        "default_root_dir": str(config.default_root_dir),
        "callbacks": list(callbacks),
        "enable_checkpointing": given(Checkpoint),
        "enable_progress_bar": given(ProgressBar),
        "enable_model_summary": given(ModelSummary),
        "logger": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "inference_mode": False,
    }


class LightningRun:
    """One Trainer and what it runs.

    Args:
        trainer: The real Trainer.
        callbacks: The native callbacks that the user gave.
    """

    def __init__(self, trainer: Any, callbacks: Sequence[Any]) -> None:
        self._trainer = trainer
        self._callbacks = callbacks

    @property
    def native(self) -> Any:
        """The real Trainer."""
        return self._trainer

    def fit(self, job: FitJob) -> None:
        """Train."""
        shell = FitShell(job.spec.model, job.hub, list(job.optimizers.values()), job.schedules)
        shell.program = program = FitProgram(job, LightningPrimitives(shell, self._callbacks), self._trainer)
        validation = None if program.validation is None else LightningBatches(program.validation.batches)
        if validation is None:
            self._trainer.limit_val_batches = 0  # else it checks val_check_interval against data that is not there
        with quietly(), _errors_as_they_are():
            self._trainer.fit(shell, LightningBatches(program.batches), validation)
        _stay_on(job)

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test."""
        run = self._trainer.validate if job.stage is Stage.VAL else self._trainer.test
        self._evaluate(job, run, verbose=False)

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""
        return self._evaluate(job, self._trainer.predict) or []

    def _evaluate(self, job: EvalJob, run: Any, **options: Any) -> Any:
        evaluation = EvalProgram(job, self._trainer).evaluation
        shell = EvalShell(job.spec.model, job.hub, evaluation)
        with quietly(), _errors_as_they_are():
            results = run(shell, LightningBatches(evaluation.batches), **options)
        _stay_on(job)
        return results


def _stay_on(job: FitJob | EvalJob) -> None:
    """Leave the model on its device, as the bare loop does; Lightning moves it to the CPU when it is done."""
    if job.device.type != "cpu":
        job.spec.model.to(job.device)


@contextmanager
def _errors_as_they_are() -> Iterator[None]:
    """Give back the KeyboardInterrupt that Lightning turns into an exit of the process, and the signal it blocks."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise error.__context__ from None
        raise
