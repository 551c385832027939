"""The fit program, shared by all backends.

A backend owns the loop. It drives ``FitProgram`` as documented in ``unitrain.backends.protocol.Program``, and calls
``Evaluation`` at the start and end of an evaluation and for each batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.backends.protocol import Stage, Verdict
from unitrain.checkpoint.capture import attempted, capture, gradients, required, set_apart
from unitrain.checkpoint.outside_model import changed_in_loss
from unitrain.checkpoint.restore import position, take_up
from unitrain.checkpoint.saving import write_all
from unitrain.data.batch import describe, sample_counter, to_device
from unitrain.data.batches import Batches
from unitrain.data.own_random import OwnRandom
from unitrain.errors import SpecError, UnitrainError, did_you_mean
from unitrain.loop.evaluation import Evaluation
from unitrain.loop.forward_pass import forward_epoch
from unitrain.loop.meter import StageMeter
from unitrain.loop.metered_run import MeteredRun, not_manual
from unitrain.loop.precision import converted
from unitrain.loop.rank_consistency import require_same_end
from unitrain.loop.step import TrainStep
from unitrain.run.hub import Event
from unitrain.run.progress import Progress
from unitrain.run.stopping import SIGNAL, StopRule, ValidationRule
from unitrain.utilities.lazy_layers import without_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from unitrain.backends.protocol import FitJob
    from unitrain.loop.step import Primitives


class FitProgram(MeteredRun):
    """The training of a spec, a ``Program``: a backend calls the methods in the order of their definition.

    Attributes:
        foreign: False: unitrain's own.
        batches: The batches that the backend's training loop iterates.
        validation: The validation, or None.
        output: The loss of the last batch, detached.
        last: Whether that batch was its epoch's last.

    Args:
        job: The fit to run.
        primitives: The backend's operations within a step.
        native: The real backend object, for handlers.
    """

    foreign = False

    def __init__(self, job: FitJob, primitives: Primitives, native: Any) -> None:
        super().__init__(job, native)
        self._device = job.device
        self._schedules = job.schedules
        self.context, self.scaler, self.sharded = primitives.context, primitives.scaler, job.sharded
        self.meter = self._train_meter = StageMeter("train", job.spec.metrics or {}, job.team)
        self._step = TrainStep(job, primitives, self.meter)
        self._count = sample_counter(job.spec.batch_size, "train")
        self._stop = StopRule(job.config, job.hub, job.team)
        self._job = job
        self._resume = resume = job.resume
        self._midway = resume is not None and resume.midway
        start = None if resume is None or not resume.midway else position(job.train, resume)
        train, changes = converted(job.train, job.config.precision), job.reload is not None
        self.batches = Batches(train, lambda: self.state.epoch, start, changes=changes)
        self.validation = Evaluation(self, job.val, Stage.VAL, job.device) if job.val else None
        self._validate_when = ValidationRule(job.config, job.train.length) if job.val else None
        self._index = 0 if resume is None else resume.in_epoch
        self._epochs_done = 0 if resume is None else resume.epochs_done
        self._together = job.team.size > 1
        self.output: Tensor | None = None
        self.last = False
        self._verdict = Verdict.NEXT
        self._unsized = job.train.length is None or changes
        self._cut: dict[str, Any] | Exception | None = None

    @property
    def max_epochs(self) -> int | None:
        """Epochs at most; None is without limit."""
        return self.config.epochs

    @property
    def metrics(self) -> Mapping[str, float]:
        """The values of the epoch, by full name."""
        return self.hub.epoch_metrics

    def start(self) -> Verdict:
        """Begin. A model in eval mode is put into train mode; submodules that the user froze stay frozen."""
        if not self.model.training:
            self.model.train()
        self._stop.start()
        self.hub.fire(Event.FIT_START)
        self._train_meter.on_output = self.hub.batch_output
        if self._resume is not None:
            take_up(self._resume, self._job)
            if self.scaler is not None and self._resume.scaler is not None:
                self.scaler.load_state_dict(self._resume.scaler)
            self._remember(self._resume.remembered or {})
        self._stop.agree()
        self._safe_point(begun=False)
        return self._after_epoch()

    def epoch_start(self) -> None:
        """Begin an epoch, or resume the one in which a checkpoint was written."""
        if self._midway and self._resume is not None:
            self._midway = False
            self._train_meter.reset(self._device)
            if self._resume.meter is not None:
                self._train_meter.load_state_dict(to_device(self._resume.meter, self._device))
                self._train_meter.remember((self._resume.remembered or {}).get("train", {}))
            return
        self.state.epoch = self._epochs_done
        if self._job.reload is not None:
            self._reload()
        self.hub.epoch_metrics = {}
        self._train_meter.reset(self._device)
        self._index = 0
        self.hub.fire(Event.EPOCH_START)

    def _reload(self) -> None:
        """Recreate the loaders, if due in this epoch; those of the first epoch already exist."""
        epoch, job = self._epochs_done, self._job
        if job.reload is None or not epoch or epoch % job.config.reload_dataloaders_every_n_epochs:
            return
        self._job = job = job.reload(job, epoch)
        self.hub.epoch_length = job.train.length
        self.batches.read_from(converted(job.train, job.config.precision))
        if self.validation is not None:
            self.validation.read_from(job.val)
            self._validate_when = ValidationRule(job.config, job.train.length)

    def train_batch(self, batch: Any) -> Verdict:
        """Train on ``batch``.

        Raises:
            RuntimeError: If user code raises StopIteration, which both backends would take for the end of the epoch.
        """
        last = self.batches.length == self._index + 1
        if self._unsized:
            require_same_end(self.team, self._index + 1, last=last)
        self.batch = batch
        self._train_meter.batch_start()
        try:
            self.weight = weight = self._count(batch)
            self.hub.fire(Event.BATCH_START)
            self._step.run(batch, weight, self._index, last)
        except StopIteration as error:
            raise RuntimeError("the training step raised StopIteration, which would silently end the epoch") from error
        except UnitrainError:
            raise
        except Exception as error:
            if self.state.batch == 0:
                error.add_note(f"unitrain: the first batch was {describe(batch)}")
            raise
        self._batch_end(last=last)
        self._verdict = verdict = self._after_batch()
        return verdict

    def _batch_end(self, *, last: bool) -> None:
        state = self.hub.state
        state.loss = self.output = self._step.loss
        state.batch += 1
        self.last = last
        if last:
            for schedule in self._schedules:
                schedule.after_last_batch(state.epoch)
        self._index += 1
        self._stop.after_batch()
        self.hub.fire(Event.BATCH_END)
        if self._together:
            self._stop.agree()
        self.weight = self.batch = None

    def agree(self) -> None:
        """Apply requests of other processes."""
        self._stop.agree()

    def _after_batch(self, *, validated: bool = False) -> Verdict:
        """Return the next verdict, on which all processes agree."""
        stopping = self.hub.stop_reason is not None and self._stop.granted(self._epochs_done)
        if self._validate_when is not None and not validated:
            due = self._validate_when.due(
                epoch=self.state.epoch,
                done=self._index,
                total=self.state.batch,
                last=self.last,
                stopping=stopping and self._stop.reason != SIGNAL,  # who sends one does not wait for long
            )
            if due:
                return Verdict.VALIDATE
        if self.last:
            return Verdict.END_EPOCH
        return Verdict.END_FIT if stopping else Verdict.NEXT

    def batch_done(self) -> Verdict:
        """Write the requested checkpoints, after the framework's own callbacks and the validation."""
        verdict = self._verdict
        if verdict is Verdict.VALIDATE:
            verdict = self._after_batch(validated=True)
        elif self.hub.stop_reason is not None:  # a callback may have asked for it since
            self._verdict = verdict = self._after_batch()
        if verdict is Verdict.VALIDATE or self.last:
            return verdict
        if self.hub.pending_checkpoints and verdict is Verdict.NEXT:
            self.write_saves()
        if self.hub.on_safe_point is not None:
            self._safe_point()
        return verdict

    def write_saves(self) -> None:
        """Write the checkpoints that were asked for."""
        write_all(self.hub, self._content, self.team)

    def _content(self) -> dict[str, Any]:
        if self._cut is not None:
            return required(self._cut)
        return capture(self._job, self._progress(midway=not (self.last or self.at_rest)))

    def _safe_point(self, *, begun: bool = True) -> None:
        """Notify the listener that the run could be resumed from here after an error."""
        if self.hub.on_safe_point is not None and (begun or not without_values(self.spec.model)):
            self.hub.on_safe_point(self._content() if begun else capture(self._job, self._progress(midway=False)))

    def _progress(self, *, midway: bool) -> Progress:
        if self._midway and self._resume is not None:
            return self._resume  # the epoch that an earlier run began is not taken up yet
        pending = not self.spec.automatic_optimization or (midway and self._index % self.accumulate_grad_batches)
        at_iter, ahead = self.batches.at_iter, self.batches.before_ahead
        return Progress(
            epochs_done=self._epochs_done,
            in_epoch=self._index,
            midway=midway,
            meter=self._train_meter.state_dict() if midway else None,
            rng=self._job.train.snapshot(whole=True).state_dict(),
            val_rng=OwnRandom(source.loader for source in self._job.val).states() or None,
            rng_at_iter=at_iter.state_dict() if midway and at_iter else None,
            rng_before_ahead=ahead.state_dict() if midway and ahead else None,
            gradients=gradients(self._job.spec.model, self.sharded) if pending else None,
            scaler=None if self.scaler is None else self.scaler.state_dict(),
            rng_at_load=self._job.rng_at_load,
            remembered=self._memory(),
            loader=self.batches.state(midway=midway),
            accumulate=[self.config.accumulate_grad_batches, self.accumulate_grad_batches],
            loss=changed_in_loss(self.spec.loss, self._job.loss_before),
        )

    def _memory(self) -> dict[str, dict[str, Any]] | None:
        kept = {"train": self._train_meter.memory()} | (self.validation.memory() if self.validation else {})
        return {stage: one for stage, one in kept.items() if one} or None

    def _remember(self, kept: Mapping[str, dict[str, Any]]) -> None:
        self._train_meter.remember(kept.get("train", {}))
        if self.validation:
            self.validation.remember(kept)

    def epoch_end(self) -> Verdict:
        """End an epoch: publish the metrics, call the handlers, step the schedulers with a monitor."""
        self.hub.finish_save()
        self.hub.within_epoch = not self.last
        if not self.last:  # cut short by a stop: a checkpoint continues after the last batch, not after the epoch
            if self.hub.pending_checkpoints:  # first what was due by then: who resumes must know these files
                self.write_saves()
            live = attempted(self._job, self._progress(midway=True))
            # handlers may change the weights before it is written
            self._cut = set_apart(live) if isinstance(live, dict) else live
        self._epochs_done += 1
        self.hub.publish(self._train_meter.compute(), self._train_meter.tables)
        self.hub.fire(Event.EPOCH_END)
        awaiting_validation = self.validation is not None and not self.hub.occurred(Event.VAL_END)
        for schedule in self._schedules:
            schedule.after_epoch(
                self.state.epoch,
                self.hub.epoch_metrics,
                self.state.metrics,
                awaiting_validation=awaiting_validation,
            )
        self.hub.decide()
        self._stop.agree()
        if self.hub.pending_checkpoints:
            self.write_saves()
        self._cut = None if self.last else live
        self._safe_point()
        return self._after_epoch()

    def _after_epoch(self) -> Verdict:
        if self.hub.stop_reason is not None and self._stop.granted(self._epochs_done):
            return Verdict.END_FIT
        done = self.max_epochs is not None and self._epochs_done >= self.max_epochs
        return Verdict.COMPLETE if done else Verdict.NEXT

    def end(self) -> None:
        """End."""
        self.hub.finish_save()
        self.hub.fire(Event.FIT_END)
        self.team.broadcast_buffers(self.model)
        self._stop.agree()
        self.at_rest = True
        if self.hub.pending_checkpoints:
            self.write_saves()
            self.hub.finish_save()

    def stopped(self, reason: str) -> None:
        """Record that a native callback stopped the run."""
        self.hub.request_stop(reason)

    def forward_epoch(self) -> None:
        """Run the forward pass on each batch of an epoch of the training data."""
        forward_epoch(self._job, self.batches, self.context)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, in manual optimization."""
        if self.spec.automatic_optimization:
            raise not_manual("backward")
        self._step.manual_backward(loss)

    def step(self, name: str | None = None) -> None:
        """Clip, step and clear one optimizer, in manual optimization."""
        if self.spec.automatic_optimization:
            raise not_manual("step")
        self._step.manual_step(which_optimizer(name, self.optimizers))


def which_optimizer(name: str | None, optimizers: Mapping[str, Optimizer]) -> str:
    """Return the name of the optimizer that ``run.step(name)`` means.

    Raises:
        SpecError: If there is no optimizer of that name, or several and no name is given.
    """
    if name is None and len(optimizers) == 1:
        return next(iter(optimizers))
    if name is None:
        raise SpecError(f"run.step() must name one of the optimizers {', '.join(map(repr, optimizers))}.")
    if name not in optimizers:
        raise SpecError(f"run.step({name!r}): no such optimizer.", hint=did_you_mean(name, optimizers))
    return name
