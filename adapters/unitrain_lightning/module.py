"""The LightningModule that stands for a spec, and hands each hook to the shared program."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch

from unitrain_lightning._compat import keep_gradients, keep_modes
from unitrain_lightning.batched_steps import batches_in_one_call
from unitrain_lightning.namespace import OnLightning
from unitrain_lightning.stopping import why_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.data.batches import Batches
    from unitrain.loop.evaluation import Evaluation, InTurn
    from unitrain.loop.fit import FitProgram
    from unitrain.optim.optimizers import Schedule
    from unitrain.run.hub import EventHub


class LightningBatches:
    """Batches as Lightning wants them: with a length.

    Without one Lightning reads a batch ahead, before ``on_train_start`` and before each step, so a dataset that draws
    random numbers or looks at the run would give other batches than on Ignite. An endless length keeps it from that;
    the shell tells it the last batch.

    Args:
        batches: What to iterate.
    """

    def __init__(self, batches: Batches | InTurn) -> None:
        self._batches = batches

    @property
    def sized(self) -> bool:
        """Whether the length is one."""
        return self._batches.sized

    def __len__(self) -> int:
        length = self._batches.length if self.sized else None
        return sys.maxsize if length is None else length

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


class Shell(OnLightning):
    """Carries the user's model under ``model`` and hands each hook to the shared program.

    Args:
        model: The user's model.
    """

    stands_on = "LightningModule"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.automatic_optimization = False
        keep_gradients(self, self.lightning.root)
        keep_modes(self, self.lightning.root)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning writes this name 32 times a step; nn.Module would look each time whether it is a parameter.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's model."""
        return self.model(*args, **kwargs)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Return the batch, which is on the device: Lightning would build it anew by its constructor."""
        return batch

    def publish(self, hub: EventHub) -> None:
        """Show the newest values to native callbacks, under ``trainer.callback_metrics``."""
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in hub.epoch_metrics.items()})


class FitShell(Shell):
    """The shell of a training run.

    Args:
        model: The user's model.
        hub: The clock of the run.
        optimizers: In the order of the spec.
        schedules: The learning-rate schedules; Lightning stores them and never steps them.
    """

    program: FitProgram
    _sized = True
    _limit: Any = None
    _open = False

    def __init__(
        self, model: nn.Module, hub: EventHub, optimizers: Sequence[Optimizer], schedules: Sequence[Schedule]
    ) -> None:
        super().__init__(model)
        self._hub = hub
        self._given = list(optimizers)
        self._schedulers = [{"scheduler": schedule.scheduler} for schedule in schedules]

    def configure_optimizers(self) -> Any:
        """Return the optimizers that the spec made."""
        return self._given, self._schedulers

    def on_train_start(self) -> None:
        """Begin the run."""
        # Lightning listens to SIGTERM while it sets up, and would end the process; from here on unitrain does
        self.trainer._signal_connector.received_sigterm = False  # noqa: SLF001 - there is no public way
        self._sized = self.program.batches.sized
        self.program.fit_start()
        self._stop_if_asked()

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        self.program.epoch_start()

    def in_runs(self, *, training: bool, validation: bool) -> None:
        """Take many batches at a call, in training or in validation, or in both."""
        if training:
            self.__dict__["training_step"] = self._training_run
        if validation:
            self.__dict__["validation_step"] = self._validation_run

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Run the shared step."""
        program = self.program
        program.train_batch(batch)
        if not self._sized and program.epoch_over:
            self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
        self._open = not self._validates()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """End the batch, behind the native callbacks: a checkpoint holds what they made of the batch."""
        if self._open:
            self._open = False
            self.program.batch_done()

    def _training_run(self, dataloader_iter: Any) -> None:
        """Run the shared step with a run of batches, until Lightning has something to do."""
        trainer, train_batch, batch_done = self.trainer, self.program.train_batch, self.program.batch_done
        loop = trainer.fit_loop.epoch_loop

        def count() -> None:
            loop._batches_that_stepped += 1  # noqa: SLF001 - there is no public way

        for batch in batches_in_one_call(dataloader_iter, loop.batch_progress, count):
            train_batch(batch)
            if self._validates():
                break
            batch_done()
            if trainer.should_stop:
                break
        if dataloader_iter.done and trainer.val_check_batch != 1:  # Lightning would validate unasked
            self._limit, trainer.limit_val_batches = trainer.limit_val_batches, 0

    def _validates(self) -> bool:
        """Stop if asked, and return whether Lightning is to validate; then the batch is done when its validation is."""
        program = self.program
        if self._hub.stop_reason is not None:
            self._stop_if_asked()
        if program.validation is not None:
            trainer, due = self.trainer, program.validation_due
            trainer.val_check_batch = 1 if due else sys.maxsize
            if due:
                return True
            if trainer.should_stop and trainer.fit_loop._can_stop_early:  # noqa: SLF001 - there is no public way
                trainer.limit_val_batches = 0  # at a stop Lightning validates unasked, after SIGTERM too
        return False

    # Lightning asks for the signature of the step at each step; kept here it is asked for once.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients: they may be accumulating."""

    def on_validation_start(self) -> None:
        """Begin a validation."""
        self._validation.start()

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Evaluate one batch."""
        self._validation.batch(batch)

    def _validation_run(self, dataloader_iter: Any) -> None:
        """Evaluate a run of batches."""
        for batch in batches_in_one_call(dataloader_iter, self.trainer.fit_loop.epoch_loop.val_loop.batch_progress):
            self._validation.batch(batch)

    def on_validation_epoch_end(self) -> None:
        """End the validation."""
        self._validation.end()
        self.publish(self._hub)
        self._stop_if_asked()
        self.program.batch_done()

    def on_train_epoch_end(self) -> None:
        """End the epoch."""
        if self._limit is not None:
            self._limit, self.trainer.limit_val_batches = None, self._limit
        self.program.epoch_end()
        self.publish(self._hub)
        self._stop_if_asked()

    def on_train_end(self) -> None:
        """End the run."""
        if self.trainer.should_stop:  # a native callback asked for it, if we did not
            kinds = self.lightning.EarlyStopping, self.lightning.Timer
            self._hub.request_stop(why_stopped(self.trainer.callbacks, *kinds))
        self.program.fit_end()

    @property
    def _validation(self) -> Evaluation:
        validation = self.program.validation
        assert validation is not None  # noqa: S101 - Lightning validates only if it was given a loader
        return validation

    def _stop_if_asked(self) -> None:
        if self.program.stopping:
            # The minima bind native callbacks; where they do not hold (max_steps), Lightning must not wait for them.
            self.trainer.fit_loop.min_epochs = self.trainer.fit_loop.epoch_loop.min_steps = None
            self.trainer.should_stop = True


class EvalShell(Shell):
    """The shell of an evaluation or a prediction by itself.

    Args:
        model: The user's model.
        hub: The clock of the run.
        evaluation: What to drive.
    """

    def __init__(self, model: nn.Module, hub: EventHub, evaluation: Evaluation) -> None:
        super().__init__(model)
        self._hub = hub
        self._evaluation = evaluation

    def in_runs(self) -> None:
        """Take many batches at a call."""
        self.__dict__["validation_step"] = self.__dict__["test_step"] = self._run

    def _run(self, dataloader_iter: Any) -> None:
        for batch in batches_in_one_call(dataloader_iter, self.trainer._active_loop.batch_progress):  # noqa: SLF001 - as Lightning calls it
            self._evaluation.batch(batch)

    def _begin(self) -> None:
        self._evaluation.start()

    def _evaluate(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's signature
        return self._evaluation.batch(batch)

    def _finish(self) -> None:
        self._evaluation.end()
        self.publish(self._hub)

    on_validation_start = on_test_start = on_predict_start = _begin
    validation_step = test_step = predict_step = _evaluate
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _finish
