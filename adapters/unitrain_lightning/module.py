"""The LightningModules that let a Trainer's loops drive a program."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.protocol import Verdict
from unitrain_lightning._compat import keep_modes
from unitrain_lightning.batched_steps import batches_in_one_call
from unitrain_lightning.namespace import OnLightning
from unitrain_lightning.stopping import why_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from unitrain.backends.protocol import EpochBatches, EvaluationProgram, Program


class LightningBatches:
    """Batches as Lightning wants them: with a length.

    Without one Lightning reads a batch ahead, before ``on_train_start`` and before each step, so a dataset that draws
    random numbers or looks at the run would give other batches than on Ignite. An endless length keeps it from that;
    the shell tells it the last batch.

    Args:
        batches: The batches to iterate.
    """

    def __init__(self, batches: EpochBatches) -> None:
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
    """Carries the user's model under ``model`` and hands each hook to the program.

    Args:
        model: The model of the program; None if the backend must not touch it.
    """

    stands_on = "LightningModule"

    def __init__(self, model: nn.Module | None) -> None:
        super().__init__()
        self.model: Any = model
        self.automatic_optimization = False

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning writes this name 32 times a step; nn.Module would look each time whether it is a parameter, which
        # takes a fifth of a step of W1p where a native callback listens.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's model."""
        return self.model(*args, **kwargs)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Keep the gradients, which Lightning drops before a run and before a validation: they may be accumulating."""

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Return the batch, which is on the device: Lightning would build it again by its constructor."""
        return batch

    def publish(self, metrics: Mapping[str, float]) -> None:
        """Show the newest values to native callbacks, under ``trainer.callback_metrics``."""
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})


class FitShell(Shell):
    """The shell of a training run.

    What it tells Lightning's loop, and by which of its fields:

    - the last batch of an epoch that has no length: ``batch_progress.is_last_batch``;
    - to validate: ``trainer.val_check_batch``, which is 1 then and endless otherwise;
    - to stop: ``trainer.should_stop``, and no minima: those of a spec are the program's;
    - not to validate at a stop, or at the end of a run of batches, where Lightning does so unasked:
      ``trainer.limit_val_batches``.

    Args:
        program: The program to drive.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program.model)
        self._program = program
        self._sized = program.batches.sized
        self._limit: Any = None
        self._open = False  # a batch is trained on, and not done
        self._tells_loss = False
        if not program.foreign:
            keep_modes(self, self.lightning.root)

    def configure_optimizers(self) -> Any:
        """Return the program's optimizers and schedules; Lightning stores these and never steps them."""
        schedules = [{"scheduler": schedule.scheduler} for schedule in self._program.schedules]
        return list(self._program.optimizers.values()), schedules

    def train(self, mode: bool = True) -> FitShell:
        """Leave the modes of a foreign program's modules."""
        return self if self._program.foreign else super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> FitShell:
        """Leave a foreign program's modules on their devices: Lightning moves them first, and to the CPU at last."""
        return self if self._program.foreign else super()._apply(fn, recurse)

    def tell_loss(self) -> None:
        """Return the loss from each step, for callbacks that look at ``outputs``."""
        self._tells_loss = True

    def batch_steps(self, *, training: bool, validation: bool) -> None:
        """Take many batches at a call, in training or in validation, or in both."""
        if training:
            self.__dict__["training_step"] = self._train_many
        if validation:
            self.__dict__["validation_step"] = self._validate_many

    def on_train_start(self) -> None:
        """Begin the run."""
        if not self._program.foreign:
            # Lightning listens to SIGTERM while it sets up, and would end the process; from here on unitrain does
            self.trainer._signal_connector.received_sigterm = False  # noqa: SLF001 - there is no public way
        if self._program.validation is not None:
            self.trainer.val_check_batch = sys.maxsize
        self._heed(self._program.start())

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        self._program.epoch_start()

    def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's signature
        """Train on a batch."""
        verdict = self._program.train_batch(batch)
        if self._program.last and not self._sized:
            self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
        self._open = verdict is not Verdict.VALIDATE
        if verdict is not Verdict.NEXT:
            self._heed(verdict)
        if verdict is not Verdict.VALIDATE and self.trainer.should_stop:
            self._validate_no_more()
        return self._program.output if self._tells_loss else None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """End the batch after the native callbacks, so that a checkpoint includes their changes."""
        if self._open:
            self._open = False
            verdict = self._program.batch_done()
            if verdict is not Verdict.NEXT:
                self._heed(verdict)
            if verdict is Verdict.END_FIT:
                self._validate_no_more()

    def _train_many(self, dataloader_iter: Any) -> None:
        """Train on a run of batches, until Lightning has something to do."""
        verdict, progress = self._run_of_batches(dataloader_iter), self.trainer.fit_loop.epoch_loop.batch_progress
        if self._program.last and not self._sized:
            progress.is_last_batch = True
        self._heed(verdict)
        if verdict is Verdict.VALIDATE:
            return
        if self.trainer.should_stop:
            self._validate_no_more()
        if progress.is_last_batch and self._limit is None:  # data without a length ends in a call of its own
            self._limit, self.trainer.limit_val_batches = self.trainer.limit_val_batches, 0

    def _run_of_batches(self, dataloader_iter: Any) -> Verdict:
        """Train until Lightning has something to do, and return the last verdict."""
        trainer, train_batch, batch_done = self.trainer, self._program.train_batch, self._program.batch_done
        loop, verdict = trainer.fit_loop.epoch_loop, Verdict.NEXT

        def count(batches: int) -> None:
            loop._batches_that_stepped += batches  # noqa: SLF001 - there is no public way

        for batch in batches_in_one_call(dataloader_iter, loop.batch_progress, count):
            verdict = train_batch(batch)
            if verdict is not Verdict.VALIDATE:
                verdict = batch_done()
            if verdict is not Verdict.NEXT or trainer.should_stop:
                break
        return verdict

    def _heed(self, verdict: Verdict) -> None:
        """Apply the program's verdict to Lightning's loop."""
        if verdict is Verdict.VALIDATE:
            self.trainer.val_check_batch = 1
        elif verdict is Verdict.END_FIT:
            self.trainer.fit_loop.min_epochs = self.trainer.fit_loop.epoch_loop.min_steps = None
            self.trainer.should_stop = True

    def _validate_no_more(self) -> None:
        """Keep Lightning from validating at a stop, after SIGTERM too, where the program does not ask for it."""
        if self._program.validation is not None and self.trainer.fit_loop._can_stop_early:  # noqa: SLF001 - there is no public way
            self.trainer.limit_val_batches = 0

    # Lightning asks for the signature of the step at each step; kept here it is asked for once.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def on_validation_start(self) -> None:
        """Begin a validation."""
        self._validation.start()

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Evaluate one batch."""
        self._validation.batch(batch)

    def _validate_many(self, dataloader_iter: Any) -> None:
        """Evaluate a run of batches."""
        for batch in batches_in_one_call(dataloader_iter, self.trainer.fit_loop.epoch_loop.val_loop.batch_progress):
            self._validation.batch(batch)

    def on_validation_epoch_end(self) -> None:
        """End the validation."""
        self._validation.end()
        self.publish(self._program.metrics)
        self.trainer.val_check_batch = sys.maxsize
        self._heed(self._program.batch_done())

    def on_train_epoch_end(self) -> None:
        """End the epoch."""
        if self._limit is not None:
            self._limit, self.trainer.limit_val_batches = None, self._limit
        verdict = self._program.epoch_end()
        self.publish(self._program.metrics)
        self._heed(verdict)

    def on_train_end(self) -> None:
        """End the run."""
        if self.trainer.should_stop:  # a native callback asked for it, if we did not
            kinds = self.lightning.EarlyStopping, self.lightning.Timer
            self._program.stopped(why_stopped(self.trainer.callbacks, *kinds))
        self._program.end()

    @property
    def _validation(self) -> EvaluationProgram:
        validation = self._program.validation
        assert validation is not None  # noqa: S101 - Lightning validates only if it was given a loader
        return validation


class EvalShell(Shell):
    """The shell of an evaluation or a prediction alone.

    Args:
        evaluation: The evaluation to drive.
    """

    def __init__(self, evaluation: EvaluationProgram) -> None:
        super().__init__(evaluation.model)
        self._evaluation = evaluation
        keep_modes(self, self.lightning.root)

    def batch_steps(self) -> None:
        """Take many batches at a call."""
        self.__dict__["validation_step"] = self.__dict__["test_step"] = self._evaluate_many

    def _evaluate_many(self, dataloader_iter: Any) -> None:
        for batch in batches_in_one_call(dataloader_iter, self.trainer._active_loop.batch_progress):  # noqa: SLF001 - as Lightning calls it
            self._evaluation.batch(batch)

    def _begin(self) -> None:
        self._evaluation.start()

    def _evaluate(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002 - Lightning's signature
        return self._evaluation.batch(batch)

    def _finish(self) -> None:
        self._evaluation.end()
        self.publish(self._evaluation.metrics)

    on_validation_start = on_test_start = on_predict_start = _begin
    validation_step = test_step = predict_step = _evaluate
    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _finish
