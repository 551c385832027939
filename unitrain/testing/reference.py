"""The reference loop: plain PyTorch, as a person would write it. Every test and benchmark compares with it.

It shares no training code with the core (no step, no program, no meter, no batches wrapper, no stop rule): a reference
that shares the code under test proves nothing. It is naive on purpose; do not make it clever.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import is_dataclass
from datetime import timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unitrain.backends.protocol import ONE_DEVICE, Feature, Run, Stage, Translation, Verdict
from unitrain.checkpoint.capture import attempted, capture, gradients, required
from unitrain.checkpoint.outside_model import changed_in_loss
from unitrain.checkpoint.restore import take_up
from unitrain.checkpoint.saving import write_all
from unitrain.config import TrainerConfig
from unitrain.data.own_random import OwnRandom
from unitrain.data.position import copied_state, keeper
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import SpecError
from unitrain.loop.misfits import explain_misfit
from unitrain.optim.schedules import unknown_monitor
from unitrain.run.context import RunContext
from unitrain.run.hub import Event
from unitrain.run.progress import Progress
from unitrain.testing.bare_batch import cast, size_of
from unitrain.testing.bare_data import Lengths, batches, own_position, pair
from unitrain.testing.bare_metrics import copied, feed, from_sums, one_number, over_epochs, put_back, results, sums
from unitrain.testing.bare_team import (
    all_or_none_end,
    average_gradients,
    everybodys,
    from_rank_zero,
    stop_of_all,
    wrapped,
)
from unitrain.utilities.lazy_layers import without_values
from unitrain.utilities.rng import RngSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch.optim import Optimizer

    from unitrain.backends.protocol import EvalJob, EvaluationProgram, FitJob, Program
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives
    from unitrain.metrics.tables import Table
    from unitrain.optim.schedules import Schedule


def gpu_generators(device: torch.device) -> list[torch.Generator]:
    """Return the global generator of ``device``, if it is a GPU."""
    return [torch.cuda.default_generators[device.index or 0]] if device.type == "cuda" else []


class ReferenceAdapter:
    """Runs a spec with no framework at all."""

    name: ClassVar[str] = "reference"
    requires: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    features: ClassVar[frozenset[Feature]] = ONE_DEVICE | {Feature.DEVICES, Feature.NATIVE_CODE}
    events: ClassVar[Mapping[Event, str]] = dict.fromkeys(Event, "the loop")
    unmapped: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Mapping[str, Translation]] = dict.fromkeys(
        TrainerConfig.__dataclass_fields__, Translation(shared="the reference loop")
    )

    def build(
        self,
        config: TrainerConfig,  # noqa: ARG002
        device: torch.device,  # noqa: ARG002
        callbacks: Sequence[Any],  # noqa: ARG002
        team: Collectives = SINGLE_PROCESS,  # noqa: ARG002
    ) -> ReferenceRun:
        """Return a run; there is nothing to build."""
        return ReferenceRun()

    def accepts_callback(self, callback: object) -> bool:  # noqa: ARG002 - there is no framework to have any
        """Return False: there is no framework, so there are no native callbacks."""
        return False


class ReferenceRun(Run):
    """The loops of training, evaluation and prediction."""

    native = None

    def fit(self, job: FitJob) -> None:
        """Train."""
        _Training(job).run()

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict."""
        return _Bare(job).evaluate(job.data, job.stage)

    def run(self, program: Program) -> None:
        """Run another framework's program in the reference loop."""
        verdict = program.start()
        while verdict is Verdict.NEXT:
            program.epoch_start()
            for batch in program.batches:
                if program.train_batch(batch) is not Verdict.NEXT:
                    break
            verdict = program.epoch_end()
        program.end()

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Run another framework's evaluation in the reference loop."""
        return [evaluation.batch(batch) for batch in evaluation.batches]


class _Bare(RunContext):
    """The run that handlers see, with what the running stage has measured, and the loop of an evaluation."""

    def __init__(self, job: FitJob | EvalJob) -> None:
        super().__init__(job, None)
        self.together = job.team.size > 1
        self.measured: dict[str, list[Any]] = {}
        self.prefix = ""
        self.keep = getattr(job, "keep", True)
        self.size: int | None = None
        self.remembered: dict[str, dict[str, Any]] = {}  # by metrics over epochs, in an earlier run
        self.evaluated: dict[str, dict[str, Any]] = {}  # the metrics of validation and test
        self.warned: list[str] = []  # the stages whose batches are counted by a guess
        self.logged: dict[str, Tensor] = {}  # by the running batch
        self.lengths: Lengths = []
        self.device = job.device
        self.default_dtype = torch.get_default_dtype()
        self.dtype = {"64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}.get(
            str(job.config.precision)
        )

    def log(self, name: str, value: Tensor | float) -> None:
        full = self.name_of(self.prefix, name)
        number = one_number(f"the logged value {name!r}", value)
        if self.size is None:
            self.hub.publish({full: float(value)})
        else:
            self.measured.setdefault(name, []).append((number, self.size))
            self.logged[name] = number

    def batch_values(self) -> dict[str, float]:
        loss = {} if self.state.loss is None else {"train/loss": self.state.loss.float()}
        logged = {self.name_of(self.prefix, name): value for name, value in self.logged.items()}
        return {name: value.item() for name, value in (loss | logged).items()}

    def logged_values(self) -> Mapping[str, Tensor]:
        return self.logged

    def timing(self, part: str) -> AbstractContextManager[None]:
        """Measure what is within, for a profile."""
        return nullcontext() if self.hub.clock is None else self.hub.clock.measure(part)

    def settle(self) -> None:
        """Do what all processes do if any of them asks for it: nothing, in an evaluation alone."""

    def backward(self, loss: Tensor) -> None:  # noqa: ARG002 - refused as a whole
        raise SpecError("run.backward() belongs to manual optimization.")

    def step(self, name: str | None = None) -> None:  # noqa: ARG002 - refused as a whole
        raise SpecError("run.step() belongs to manual optimization.")

    @contextmanager
    def precision(self, *, enabled: bool = True) -> Iterator[None]:
        """Run what is within in the precision that was asked for; or outside of it again."""
        before = torch.get_default_dtype()
        mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(str(self.config.precision))
        try:
            if mixed is not None:
                with torch.autocast(self.device.type, dtype=mixed, cache_enabled=False, enabled=enabled):
                    yield
            else:
                if self.dtype is not None:
                    torch.set_default_dtype(self.dtype if enabled else self.default_dtype)
                yield
        finally:
            torch.set_default_dtype(before)

    def evaluate(self, sources: Sequence[DataSource], stage: Stage) -> list[Any]:
        """Evaluate or predict, leaving the random number generators, the modes and the measured values as they were."""
        spec, hub, name = self.spec, self.hub, stage.value.upper()
        python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        generators = [(one, one.get_state()) for source in sources for one in source.generators]
        generators += [(one, one.get_state()) for one in gpu_generators(self.device)]
        if self.together:
            from_rank_zero(spec.model.buffers())
        modes = {module: module.training for module in spec.model.modules()}
        outer = self.measured, self.prefix
        self.measured, self.prefix = {}, stage.value
        outputs = []
        spec.model.eval()
        with torch.no_grad():
            hub.fire(Event[f"{name}_START"])
            found: dict[str, float] = {}
            tables: dict[str, Table] = {}
            by_all: dict[str, list[Any]] = {}
            for source in sources:
                self.measured, self.prefix, self.loader_name = {}, stage.value, source.name
                if source.name is not None:
                    self.prefix = f"{stage.value}/{source.name}"
                metrics = self.metrics_of(self.prefix)
                outputs += self.evaluate_loader(source, stage, metrics)
                for full in [key for key in self.measured if "/" in key and source.name is not None]:
                    by_all.setdefault(full, []).extend(self.measured.pop(full))
                found |= results(self.prefix, self.measured, metrics, self.team.size, tables)
            self.prefix, self.loader_name = stage.value, None
            hub.publish(found | results(stage.value, by_all, {}, self.team.size, {}), tables)
            hub.fire(Event[f"{name}_END"])
            self.settle()
        for module, training in modes.items():
            module.training = training
        self.measured, self.prefix = outer
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for generator, state in generators:
            generator.set_state(state)
        return outputs

    def metrics_of(self, prefix: str) -> dict[str, Any]:
        """Return the metrics of a stage, reset; some remember what came before, so they are the same ones each time."""
        if prefix not in self.evaluated:
            self.evaluated[prefix] = {
                name: copied(metric, self.device) for name, metric in (self.spec.metrics or {}).items()
            }
            put_back(self.evaluated[prefix], self.remembered.get(prefix, {}))
        for metric in self.evaluated[prefix].values():
            metric.reset()
        return self.evaluated[prefix]

    def evaluate_loader(self, source: DataSource, stage: Stage, metrics: dict[str, Any]) -> list[Any]:
        """Evaluate or predict on the batches of one loader."""
        name, outputs = stage.value.upper(), []
        for given, _ in batches(None, source, self.state.epoch, None, self.lengths):
            batch = cast(given, self.dtype)
            self.size, self.batch = size_of(self, batch), batch
            self.hub.fire(Event[f"{name}_BATCH_START"])
            with self.timing(f"{stage.value} step"):
                if stage is Stage.PREDICT:
                    with self.precision():
                        self.prediction = _prediction(self.spec, batch)
                    outputs.append(self.prediction if self.keep else None)
                else:
                    _evaluation(self.spec, self, batch, metrics)
            self.hub.fire(Event[f"{name}_BATCH_END"])
            self.size = self.batch = self.prediction = None
        return outputs


class _Training(_Bare):
    """The training loop."""

    def __init__(self, job: FitJob) -> None:
        super().__init__(job)
        self.job = job
        self.prefix = "train"
        self.replica = wrapped(job)
        self.metrics = {name: copied(metric, job.device) for name, metric in (job.spec.metrics or {}).items()}
        self.optimizer = next(iter(job.optimizers.values()))
        self.kept: list[Any] | None = [] if job.train.repeat else None
        self.epochs_done = 0
        self.validated = False
        self.stepped = False
        if job.config.precision == "16-mixed":
            self.scaler = torch.amp.GradScaler(job.device.type)
        self.just_stepped: list[str] = []  # since the scale was updated
        self.cut: dict[str, Any] | Exception | None = None
        self.in_epoch, self.last, self.begun = 0, False, False
        self.at_iter: RngSnapshot | None = None
        self.before_ahead: RngSnapshot | None = None
        self.data_before_ahead: Any = None
        self.midway = job.resume if job.resume is not None and job.resume.midway else None
        if job.resume is not None:
            self.epochs_done = job.resume.epochs_done
            self.validated = self.hub.occurred(Event.VAL_END) > 0
        time_limit = job.config.max_time
        self.deadline = time.monotonic() + time_limit.total_seconds() if isinstance(time_limit, timedelta) else None

    def run(self) -> None:
        """Train, epoch by epoch."""
        if not self.model.training:
            self.model.train()
        self.hub.fire(Event.FIT_START)
        if self.job.resume is not None:
            take_up(self.job.resume, self.job)
            if self.scaler is not None and self.job.resume.scaler is not None:
                self.scaler.load_state_dict(self.job.resume.scaler)
            self.remembered = self.job.resume.remembered or {}
            put_back(self.metrics, self.remembered.get("train", {}))
        self.settle()
        self.safe_point()
        while not self.stops() and (self.config.epochs is None or self.epochs_done < self.config.epochs):
            self.begin_epoch()
            self.epoch()
            self.end_epoch()
        self.hub.finish_save()
        self.hub.fire(Event.FIT_END)
        if self.together:
            from_rank_zero(self.model.buffers())
        self.settle()
        self.at_rest = True
        if self.hub.pending_checkpoints:
            self.write_saves()
            self.hub.finish_save()

    def begin_epoch(self) -> None:
        """Begin an epoch, or continue with the one in which an earlier run was interrupted."""
        for metric in self.metrics.values():
            metric.reset()
        self.begun = True
        if self.midway is not None:
            self.take_up_epoch(self.midway)
            return
        self.state.epoch, self.hub.epoch_metrics, self.measured, self.in_epoch = self.epochs_done, {}, {}, 0
        every = self.config.reload_dataloaders_every_n_epochs
        if self.job.reload is not None and self.epochs_done in range(every, self.epochs_done + 1, every):
            self.job = self.job.reload(self.job, self.epochs_done)
            self.hub.epoch_length = self.job.train.length
        self.hub.fire(Event.EPOCH_START)

    def end_epoch(self) -> None:
        """Publish, announce, decide and save."""
        self.hub.finish_save()
        self.hub.within_epoch = not self.last
        if not self.last:  # cut short: a checkpoint continues after the last batch that was done
            if self.hub.pending_checkpoints:
                self.write_saves()
            now = attempted(self.job, self.progress(midway=True))
            # handlers may change the weights before it is written
            self.cut = copy.deepcopy(now) if isinstance(now, dict) else now
        self.epochs_done += 1
        tables: dict[str, Table] = {}
        self.hub.publish(results("train", self.measured, self.metrics, self.team.size, tables), tables)
        self.hub.fire(Event.EPOCH_END)
        self.step_plateaus()
        self.hub.decide()
        self.settle()
        if self.hub.pending_checkpoints:
            self.write_saves()
        self.cut = None if self.last else now
        self.safe_point()

    def write_saves(self) -> None:
        write_all(self.hub, self.content, self.team)

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint written now holds."""
        if self.cut is not None:
            return required(self.cut)
        return capture(self.job, self.progress(midway=not (self.last or self.at_rest)))

    def safe_point(self) -> None:
        """Tell who wants to save after an error."""
        if self.hub.on_safe_point is not None and (self.begun or not without_values(self.job.spec.model)):
            self.hub.on_safe_point(self.content() if self.begun else capture(self.job, self.progress(midway=False)))

    def progress(self, *, midway: bool) -> Progress:
        """Return where the run is, for a checkpoint."""
        if self.midway is not None and not self.begun:
            return self.midway
        within = midway and self.in_epoch % self.accumulate_grad_batches
        return Progress(
            epochs_done=self.epochs_done,
            in_epoch=self.in_epoch,
            midway=midway,
            meter=sums(self.measured, self.metrics) if midway else None,
            rng=RngSnapshot(self.job.train.generators, OwnRandom([self.job.train.loader])).state_dict(),
            val_rng=OwnRandom(source.loader for source in self.job.val).states() or None,
            rng_at_iter=self.at_iter.state_dict() if midway and self.at_iter else None,
            rng_before_ahead=self.before_ahead.state_dict() if midway and self.before_ahead else None,
            gradients=gradients(self.model) if within or not self.spec.automatic_optimization else None,
            scaler=None if self.scaler is None else self.scaler.state_dict(),
            rng_at_load=self.job.rng_at_load,
            remembered=self.remembered | over_epochs({"train": self.metrics, **self.evaluated}) or None,
            loader=own_position(self, midway=midway),
            accumulate=[self.config.accumulate_grad_batches, self.accumulate_grad_batches],
            loss=changed_in_loss(self.spec.loss, self.job.loss_before),
        )

    def take_up_epoch(self, progress: Progress) -> None:
        """Bring back what the epoch had measured."""
        self.in_epoch = progress.in_epoch
        self.measured = {} if progress.meter is None else from_sums(progress.meter, self.metrics, self.device)
        put_back(self.metrics, self.remembered.get("train", {}))

    def epoch(self) -> None:
        """Train on the batches of one epoch, validating where it is due."""
        for given, last in batches(self, self.job.train, self.state.epoch, self.kept, self.lengths):
            if self.together and self.job.train.length is None:
                all_or_none_end(last, self.in_epoch + 1)
            batch, index = cast(given, self.dtype), self.in_epoch
            self.size, self.logged = size_of(self, batch), {}
            self.batch = batch
            self.hub.fire(Event.BATCH_START)
            loss = self.train_on(batch, index, last)
            self.state.loss = None if loss is None else loss.detach()
            self.state.batch += 1
            self.in_epoch, self.last = index + 1, last
            self.after_batch(last)
            self.hub.fire(Event.BATCH_END)
            self.settle()
            self.size = self.batch = None
            if self.job.val and self.validates(index + 1, last):
                with self.timing("validation"):
                    self.evaluate(self.job.val, Stage.VAL)
                self.validated = True
            if self.stops():
                return
            if self.hub.pending_checkpoints and not last:
                self.write_saves()
            if not last:
                self.safe_point()

    def settle(self) -> None:
        """Stop, or save, if any process asks for it."""
        if self.together:
            self.hub.stop_reason = stop_of_all(self.hub.stop_reason)
            self.hub.pending_checkpoints = list(
                dict.fromkeys(path for paths in everybodys(self.hub.pending_checkpoints) for path in paths)
            )

    def after_batch(self, last: bool) -> None:
        """Step the schedulers that count epochs, and look at the limits."""
        for schedule in self.job.schedules if last else ():
            epochs = schedule.rule.interval == "epoch" and not schedule.plateau and not schedule.paused
            if epochs and (self.epochs_done + 1) % schedule.rule.frequency == 0:
                self.step_schedule(schedule)
        if self.config.max_steps != -1 and self.state.step >= self.config.max_steps:
            self.hub.stop_reason = "max_steps"
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            self.hub.stop_reason = self.hub.stop_reason or "max_time"

    def train_on(self, batch: Any, index: int, last: bool) -> Tensor | None:
        """Train on one batch and return its loss."""
        accumulate = self.accumulate_grad_batches
        if not self.spec.automatic_optimization:
            self.stepped = False
            with self.precision(), self.timing("training step"):
                result = self.spec.training_step(self, batch)  # type: ignore[misc]
            self.update_scale()
            return None if result is None else self.measure(*_step_result(result))
        if isinstance(self.optimizer, torch.optim.LBFGS):
            return self.closure_batch(batch)
        stepping = (index + 1) % accumulate == 0 or last
        if index % accumulate == 0:
            self.optimizer.zero_grad()
        with self.replica.no_sync() if self.together and not stepping else nullcontext():
            with self.timing("training step"):
                with self.precision():
                    found = _training_loss(self.spec, self.replica, batch)
                loss = self.measure(*found)
            self.differentiate(loss if accumulate == 1 else loss / accumulate)
        if stepping:
            self.clip_and_step(next(iter(self.optimizers)))
            self.update_scale()
            self.state.step += 1
            self.after_step(next(iter(self.optimizers)))
        return loss

    def closure_batch(self, batch: Any) -> Tensor:
        """Let the optimizer evaluate the batch as often as it likes; the first evaluation counts."""
        first: list[Tensor] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            with self.precision(), self.timing("training step"):
                found = _training_loss(self.spec, self.model, batch)
            loss: Tensor = found[0]
            if not first:
                first.append(self.measure(*found).detach())
            self.differentiate(loss)
            self.clip(self.optimizer)
            return loss

        with self.timing("optimizer step"):
            self.optimizer.step(closure)  # type: ignore[arg-type]
        self.state.step += 1
        self.after_step(next(iter(self.optimizers)))
        return first[0]

    def forward_epoch(self) -> None:
        """Call the model on the batches of an epoch once more, and put everything back that reading them moved."""
        python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        generators = [(generator, generator.get_state()) for generator in self.job.train.generators]
        keeps = keeper(self.job.train.loader, midway=False)
        where = None if keeps is None else copied_state(keeps)
        with torch.no_grad():
            for given, _ in batches(None, self.job.train, self.state.epoch, self.kept, self.lengths):
                batch = cast(given, self.dtype)
                with self.precision():
                    if self.spec.training_step is not None:
                        self.spec.training_step(self.model, batch)
                    else:
                        self.model(pair(batch)[0])
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for generator, state in generators:
            generator.set_state(state)
        if keeps is not None:
            keeps.load_state_dict(where)

    def backward(self, loss: Tensor) -> None:
        if self.spec.automatic_optimization:
            raise SpecError("run.backward() belongs to manual optimization.")
        with self.precision(enabled=False):
            self.update_scale()
            self.differentiate(loss)

    def differentiate(self, loss: Tensor) -> None:
        """Add the gradients of the loss, scaled if float16 needs it."""
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        with self.timing("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        self.hub.fire(Event.BACKWARD_END)

    def clip_and_step(self, name: str) -> None:
        """Unscale, clip and step one optimizer; the scaler skips the step if a gradient is not finite."""
        optimizer = self.optimizers[name]
        gradients = [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        if self.scaler is None or not gradients:
            self.clip(optimizer)
            with self.timing("optimizer step"):
                optimizer.step()
            return
        if name in self.just_stepped:
            self.update_scale()
        self.scaler.unscale_(optimizer)
        self.clip(optimizer)
        with self.timing("optimizer step"):
            self.scaler.step(optimizer)
        self.just_stepped.append(name)
        optimizer._opt_called = True  # type: ignore[attr-defined]  # noqa: SLF001 - a skipped step counts for schedulers

    def update_scale(self) -> None:
        """Change the scale after what the steps found, once for all optimizers that stepped since the last time."""
        if self.scaler is not None and self.just_stepped:
            self.scaler.update()
        self.just_stepped = []

    def step(self, name: str | None = None) -> None:
        if self.spec.automatic_optimization or (name is None and len(self.optimizers) > 1):
            raise SpecError("run.step() belongs to manual optimization, and names one of several optimizers.")
        name = name or next(iter(self.optimizers))
        if name not in self.optimizers:
            raise SpecError(f"run.step({name!r}): there is no such optimizer.")
        with self.precision(enabled=False):
            if self.together:
                average_gradients(self.optimizers[name])
            self.clip_and_step(name)
            self.state.step += not self.stepped
            self.stepped = True
            self.after_step(name)
            self.optimizers[name].zero_grad()

    def clip(self, optimizer: Optimizer) -> None:
        """Clip all gradients of one optimizer."""
        value = self.config.gradient_clip_val
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if value and any(one.grad is not None and one.grad.is_sparse for one in parameters):
            raise SpecError("sparse gradients cannot be clipped.", hint="use dense ones.")
        if value and self.config.gradient_clip_algorithm == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, value)
        elif value:
            torch.nn.utils.clip_grad_value_(parameters, value)

    def after_step(self, name: str) -> None:
        """Announce a step, and step the schedulers that count the steps of that optimizer."""
        self.hub.fire(Event.OPTIMIZER_STEP)
        for schedule in self.job.schedules:
            if schedule.optimizer_name == name:
                schedule.steps += 1
                if schedule.paused:
                    continue
                if schedule.rule.interval == "step" and schedule.steps % schedule.rule.frequency == 0:
                    self.step_schedule(schedule)
                else:
                    self.warm_up(schedule)

    def step_schedule(self, schedule: Schedule, *value: float) -> None:
        """Step a scheduler on the rates as they are without a warm-up."""
        for group in self.optimizers[schedule.optimizer_name].param_groups:
            group["lr"] = group.pop("warmup_lr", group["lr"])
        schedule.scheduler.step(*value)  # type: ignore[arg-type]
        self.warm_up(schedule)

    def warm_up(self, schedule: Schedule) -> None:
        """Scale the rates for the next step, if the optimizer is still warming up."""
        name = schedule.optimizer_name
        length = max(one.rule.warmup_steps for one in self.job.schedules if one.optimizer_name == name)
        for group in self.optimizers[name].param_groups if length else ():
            full = group.pop("warmup_lr", group["lr"])
            group["lr"] = full
            if schedule.steps + 1 < length:
                group["warmup_lr"] = full
                group["lr"] = full * ((schedule.steps + 1) / length)

    def step_plateaus(self) -> None:
        """Step the schedulers that wait for a metric of the epoch."""
        for schedule in self.job.schedules:
            monitor = schedule.rule.monitor
            if monitor is None or schedule.paused or (self.state.epoch + 1) % schedule.rule.frequency:
                continue
            if monitor in self.hub.epoch_metrics:
                self.step_schedule(schedule, self.hub.epoch_metrics[monitor])
            elif monitor not in self.state.metrics and not (
                monitor.startswith("val/") and self.job.val and not self.validated
            ):
                raise unknown_monitor(monitor, self.state.metrics)

    def measure(self, loss: Tensor, values: dict[str, Any], pair: Any) -> Tensor:
        """Remember the loss and the logged values, feed the metrics, and return the loss."""
        losses = self.measured.pop("loss", [])
        self.measured = {"loss": losses, **self.measured}  # it comes first, also after what a manual step has logged
        losses.append((one_number("the loss", loss), self.size or 0))
        if self.spec.automatic_optimization and not loss.requires_grad:
            raise SpecError(f"the loss must be a single number with a gradient; got {loss!r}.")
        for name, value in values.items():
            self.log(name, value)
        if pair is not None:
            feed(self, self.metrics, *pair)
            if self.hub.batch_output is not None:
                self.hub.batch_output(pair[0].detach() if isinstance(pair[0], Tensor) else pair[0], pair[1])
        return loss

    def stops(self) -> bool:
        """Return whether the run ends now."""
        if self.hub.stop_reason in ("max_steps", "signal", "interrupt"):
            return True
        enough_epochs = self.epochs_done >= (self.config.min_epochs or 0)
        enough_steps = self.state.step >= (self.config.min_steps or 0)
        return self.hub.stop_reason is not None and enough_epochs and enough_steps

    def validates(self, done: int, last: bool) -> bool:
        """Return whether to validate after ``done`` batches of the epoch."""
        every, interval = self.config.check_val_every_n_epoch, self.config.val_check_interval
        if every is not None and (self.state.epoch + 1) % every != 0:
            return False
        if self.stops() and self.hub.stop_reason != "signal":
            return True
        if interval == 1.0 and isinstance(interval, float):
            return last
        if isinstance(interval, float):
            return done % max(1, int((self.job.train.length or 0) * interval)) == 0
        return (self.state.batch if every is None else done) % interval == 0


def _training_loss(spec: Any, model: Any, batch: Any) -> tuple[Tensor, dict[str, Any], Any]:
    """Return the loss, the values to log and the (output, target) for the metrics."""
    if spec.training_step is None:
        inputs, target = pair(batch)
        output: Any = NotImplemented
        try:
            output = model(inputs)
            return spec.loss(output, target), {}, (output, target)
        except Exception as error:
            explain_misfit(error, inputs, output)
            raise
    return _step_result(spec.training_step(model, batch))


def _step_result(result: Any) -> tuple[Tensor, dict[str, Any], Any]:
    if isinstance(result, Tensor):
        return result, {}, None
    values = _named(result) if isinstance(result, Mapping) else {}
    loss = values.pop("loss", None)
    if not isinstance(loss, Tensor):
        raise SpecError(f"training_step must return the loss, or a mapping with it; it returned {result!r}.")
    both = "output" in values and "target" in values
    return loss, values, (values.pop("output"), values.pop("target")) if both else None


def _default_evaluation(spec: Any, run: _Bare, batch: Any) -> dict[str, Any]:
    inputs, target = pair(batch)
    values: dict[str, Any] = {"output": NotImplemented, "target": target}
    try:
        with run.precision():
            values["output"] = spec.model(inputs)
            if spec.loss is not None:
                values["loss"] = spec.loss(values["output"], target)
    except Exception as error:
        explain_misfit(error, inputs, values["output"])
        raise
    return values


def _custom_evaluation(spec: Any, run: _Bare, batch: Any) -> dict[str, Any]:
    with run.precision():
        values = spec.validation_step(spec.model, batch)
    if isinstance(values, Tensor):
        values = {"loss": values}
    if isinstance(values, tuple) and len(values) == 2:  # noqa: PLR2004 - the output and the target
        values = {"output": values[0], "target": values[1]}
    if values is not None and not isinstance(values, Mapping):
        raise SpecError(f"validation_step must return (output, target), values by name or the loss; got {values!r}.")
    return _named(values or {})


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by name; of a model's own output (a dataclass) only the loss and what is one number."""
    made = dict(values)
    if is_dataclass(values):
        for name in [name for name in made if name not in ("loss", "output", "target")]:
            if not isinstance(made[name], Real) and not (isinstance(made[name], Tensor) and made[name].ndim == 0):
                del made[name]
    return made


def _evaluation(spec: Any, run: _Bare, batch: Any, metrics: Any) -> None:
    given = _default_evaluation if spec.validation_step is None else _custom_evaluation
    values = given(spec, run, batch)
    loss = values.pop("loss", None)
    if "output" in values and "target" in values:
        output, target = values.pop("output"), values.pop("target")
        if spec.loss is not None and loss is None:
            with run.precision():
                loss = spec.loss(output, target)
        feed(run, metrics, output, target)
    if loss is not None:
        run.measured.setdefault("loss", []).append((one_number("the loss", loss), run.size or 0))
    for name, value in values.items():
        run.log(name, value)


def _prediction(spec: Any, batch: Any) -> Any:
    if spec.predict_step is not None:
        return spec.predict_step(spec.model, batch)
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        return spec.model(batch[0])
    return spec.model(batch["input"] if isinstance(batch, Mapping) and "input" in batch else batch)
