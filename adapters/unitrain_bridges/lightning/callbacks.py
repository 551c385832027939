"""Runs Lightning callbacks on another backend: unitrain's events call their hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.callbacks import EpochDecision
from unitrain.errors import UnsupportedFeatureError
from unitrain.optim.optimizers import needs_closure
from unitrain.run.hub import Event
from unitrain_bridges.lightning.namespace import parts_of
from unitrain_bridges.lightning.trainer_view import TrainerView
from unitrain_lightning._compat import ROOTS

if TYPE_CHECKING:
    from unitrain.run.context import RunContext

TAKEN = ("Callback", "EarlyStopping", "LambdaCallback", "Timer")
"""Lightning's own callbacks that unitrain supports."""

INSTEAD = {
    "BackboneFinetuning": 'the callback unitrain.Freeze("backbone", until_epoch=10, lr_factor=0.1).',
    "BaseFinetuning": "the callback unitrain.Freeze or unitrain.Unfreeze.",
    "BasePredictionWriter": "the callback unitrain.PredictionWriter, or handle Event.PREDICT_BATCH_END.",
    "BatchSizeFinder": "unitrain.BatchSizeFinder, or plain Lightning for the search; then pass batch_size=.",
    "Checkpoint": "the callback unitrain.ModelCheckpoint.",
    "DeviceStatsMonitor": "the callback unitrain.DeviceStats.",
    "GradientAccumulationScheduler": "the callback unitrain.GradientAccumulationSchedule.",
    "LearningRateFinder": "unitrain.LRFinder, or plain Lightning for the search; then pass lr=.",
    "LearningRateMonitor": "the callback unitrain.LRMonitor.",
    "ModelCheckpoint": "the callback unitrain.ModelCheckpoint.",
    "OnExceptionCheckpoint": "the callback unitrain.ModelCheckpoint(save_on_exception=True).",
    "ProgressBar": "enable_progress_bar=True.",
    "StochasticWeightAveraging": "the callback unitrain.StochasticWeightAveraging.",
    "WeightAveraging": "the callback unitrain.EMA or unitrain.StochasticWeightAveraging.",
}
"""Callbacks that need Lightning's own loops, files or results, with alternatives."""

ABSENT = {
    "on_before_zero_grad": "handle Event.BATCH_START.",
    "on_before_backward": "on_after_backward, or handle Event.BACKWARD_END.",
    "on_predict_batch_end": "trainer.predict() returns the predictions, and unitrain.PredictionWriter writes them.",
    "on_save_checkpoint": "state_dict(), which is saved in checkpoints.",
    "on_load_checkpoint": "load_state_dict(), which receives the saved state.",
}
"""Hooks that only Lightning can call, with alternatives."""


def refuse_named(callback: Any, framework: str) -> None:
    """Refuse a callback that works in Lightning's own loops only.

    Raises:
        UnsupportedFeatureError: If it, or one of its hooks, is not supported; the hint names an alternative.
    """
    for cls in type(callback).__mro__:
        if cls.__module__.startswith(tuple(f"{root}." for root in ROOTS)) and cls.__name__ not in TAKEN:
            raise UnsupportedFeatureError(
                f"the callback {type(callback).__name__} needs Lightning's own loops, which do not run on"
                f" {framework!r}.",
                hint=next((INSTEAD[one.__name__] for one in type(callback).__mro__ if one.__name__ in INSTEAD), _HOME),
            )
    for hook, instead in ABSENT.items():
        if _overrides(callback, hook):
            raise UnsupportedFeatureError(
                f"{type(callback).__name__}.{hook} would never be called on {framework!r}.", hint=instead
            )


_HOME = "framework='lightning'."


def _overrides(callback: Any, hook: str) -> bool:
    """Return whether a callback has a hook of its own, in its class or, as LambdaCallback, in itself."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(parts_of(callback).Callback, hook)


def _start(name: str, stage: str) -> Any:
    def start(self: Any, run: RunContext) -> None:
        if not self._fits:
            self._open(run, stage, stage)
        self._trainer.enter(stage, "FITTING" if self._fits else stage)
        self._eval_index = 0
        self._call(f"on_{name}_start")
        self._call(f"on_{name}_epoch_start")

    return start


def _batch_start(name: str) -> Any:
    def batch_start(self: Any, run: RunContext) -> None:
        self._call(f"on_{name}_batch_start", run.batch, self._eval_index)

    return batch_start


def _batch_end(name: str) -> Any:
    def batch_end(self: Any, run: RunContext) -> None:
        if f"on_{name}_batch_end" not in ABSENT:  # else there is none: it was refused
            self._call(f"on_{name}_batch_end", None, run.batch, self._eval_index)
        self._eval_index += 1

    return batch_end


def _end(name: str) -> Any:
    def end(self: Any, run: RunContext) -> None:  # noqa: ARG001 - the signature of an event
        self._call(f"on_{name}_epoch_end")
        self._trainer.publish()
        self._call(f"on_{name}_end")
        if self._fits:
            self._trainer.enter("TRAINING", "FITTING")
        else:
            self._trainer.model.training = True
            self._close()

    return end


class LightningCallback(EpochDecision):
    """A Lightning callback that follows a run of another backend.

    Its hooks are called in Lightning's order, with the arguments that the Lightning backend passes.

    Attributes:
        native: The callback.

    Args:
        callback: A callback of either Lightning package.
        framework: The backend that runs.
    """

    def __init__(self, callback: Any, framework: str) -> None:
        self.native = callback
        self.state_key = f"lightning.{type(callback).__name__}"
        self._framework = framework
        self._parts = parts_of(callback)
        # Lightning asks these after the module's own hook, when the epoch's metrics are known
        self._monitors = isinstance(callback, self._parts.EarlyStopping)
        self._fits = False
        self._hooks: list[Any] = []
        self._trainer: Any = None

    def reset_state(self) -> None:
        """Start over."""
        self._within = False

    def state_dict(self) -> dict[str, Any]:
        """Return the callback's state."""
        return dict(self.native.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the callback's state."""
        if state:
            self.native.load_state_dict(state)

    def _call(self, hook: str, *arguments: Any, **options: Any) -> None:
        getattr(self.native, hook)(self._trainer, self._trainer.model, *arguments, **options)

    def _open(self, run: RunContext, stage: str, function: str) -> None:
        self._trainer = TrainerView(run, self._parts, self.native, self._framework)
        self._trainer.enter(stage, function)
        self._trainer.model.training = True  # Lightning changes the mode after it
        self._trainer.current_epoch = run.hub.occurred(Event.EPOCH_END) if self._fits else 0
        self._call("setup", stage=self._trainer.state.fn)

    def on_fit_start(self, run: RunContext) -> None:
        """Begin a fit.

        Raises:
            UnsupportedFeatureError: If the moment before an optimizer's step is asked for and cannot be known.
        """
        if _overrides(self.native, "on_before_optimizer_step"):
            self._watch_steps(run)
        self._fits = True
        self._open(run, "TRAINING", "FITTING")
        self._call("on_fit_start")
        self._call("on_train_start")

    def _watch_steps(self, run: RunContext) -> None:
        if run.scaler is not None or any(map(needs_closure, run.optimizers.values())):
            raise UnsupportedFeatureError(
                f"{type(self.native).__name__}.on_before_optimizer_step: with a scaled loss or a closure (LBFGS),"
                f" this hook only works on 'lightning', not on {self._framework!r}.",
                hint="on_after_backward, or handle Event.BACKWARD_END.",
            )

        def before(optimizer: Any, *_: Any) -> None:
            self._call("on_before_optimizer_step", optimizer)

        self._hooks = [optimizer.register_step_pre_hook(before) for optimizer in run.optimizers.values()]

    def on_epoch_start(self, run: RunContext) -> None:
        """Begin an epoch."""
        self._within, self._index, self._skipped = True, 0, 0
        self._trainer.current_epoch = run.state.epoch
        self._call("on_train_epoch_start")

    def on_batch_start(self, run: RunContext) -> None:
        """Begin a batch."""
        if not self._within:  # the epoch continues with an earlier run's, so unitrain has announced it there
            self.on_epoch_start(run)
            self._skipped = run.state.batch % (run.epoch_length or 1)
        self._trainer.is_last_batch = self._skipped + self._index + 1 == run.epoch_length
        self._call("on_train_batch_start", run.batch, self._index)

    def on_backward_end(self, run: RunContext) -> None:  # noqa: ARG002 - the signature of an event
        """Look at the gradients."""
        self._call("on_after_backward")

    def on_batch_end(self, run: RunContext) -> None:
        """End a batch; of what the spec's step returned, the outputs are the loss."""
        outputs = {} if run.state.loss is None else {"loss": run.state.loss}
        self._call("on_train_batch_end", outputs, run.batch, self._index)
        self._index += 1

    def on_epoch_end(self, run: RunContext) -> None:  # noqa: ARG002 - the signature of an event
        """End an epoch, before its own metrics are known to callbacks."""
        self._within = False
        if not self._monitors:
            self._call("on_train_epoch_end")

    def decide(self, run: RunContext) -> None:  # noqa: ARG002 - the signature of an event
        """Publish the epoch's metrics, and call the callback's deciding hook."""
        self._trainer.publish()
        if self._monitors:
            self._call("on_train_epoch_end")

    def on_fit_end(self, run: RunContext) -> None:
        """End a fit."""
        self._trainer.current_epoch = run.hub.occurred(Event.EPOCH_END)
        self._call("on_train_end")
        self._call("on_fit_end")
        self._close()

    def on_exception(self, run: RunContext) -> None:
        """Report an error; Lightning does not tear down after it either."""
        if self._trainer is not None:
            self._call("on_exception", run.exception)
        self._forget()

    def _close(self) -> None:
        self._call("teardown", stage=self._trainer.state.fn)
        self._forget()

    def _forget(self) -> None:
        self._fits, self._trainer = False, None
        for name in ("log", "log_dict"):  # what it holds must go with it to other processes
            vars(self.native).pop(name, None)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    on_val_start = _start("validation", "VALIDATING")
    on_val_batch_start = _batch_start("validation")
    on_val_batch_end = _batch_end("validation")
    on_val_end = _end("validation")
    on_test_start = _start("test", "TESTING")
    on_test_batch_start = _batch_start("test")
    on_test_batch_end = _batch_end("test")
    on_test_end = _end("test")
    on_predict_start = _start("predict", "PREDICTING")
    on_predict_batch_start = _batch_start("predict")
    on_predict_batch_end = _batch_end("predict")
    on_predict_end = _end("predict")
