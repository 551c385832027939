"""The bare PyTorch loop, as a person would write it: the oracle of every test and the floor of every benchmark.

It shares no training code with the core (no step, no program, no meter, no batches wrapper, no stop rule): an oracle
that shares the code under test proves nothing. It is naive on purpose; do not make it clever.
"""

from __future__ import annotations

import copy
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unitrain.batch import unpack
from unitrain.config import TrainerConfig
from unitrain.context import RunContext
from unitrain.errors import DataError, SpecError
from unitrain.events import Event
from unitrain.metrics import metric as named_metric
from unitrain.optimization import unknown_monitor
from unitrain.protocol import Feature, Stage, Translation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.optim import Optimizer

    from unitrain.data import DataSource
    from unitrain.protocol import EvalJob, FitJob


class ReferenceAdapter:
    """Runs a spec with no framework at all."""

    name: ClassVar[str] = "reference"
    requires: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    features: ClassVar[frozenset[Feature]] = frozenset(
        {
            Feature.TRAINING,
            Feature.EVALUATION,
            Feature.PREDICTION,
            Feature.MANUAL_OPTIMIZATION,
            Feature.CLOSURE_OPTIMIZERS,
            Feature.ACCUMULATION,
            Feature.CLIPPING,
            Feature.GPU,
        }
    )
    events: ClassVar[Mapping[Event, str]] = dict.fromkeys(Event, "the loop")
    unmapped: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Mapping[str, Translation]] = dict.fromkeys(
        TrainerConfig.__dataclass_fields__, Translation(shared="the bare loop")
    )

    def build(self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any]) -> ReferenceRun:  # noqa: ARG002
        """Return a run; there is nothing to build."""
        return ReferenceRun()

    def accepts_callback(self, callback: object) -> bool:  # noqa: ARG002 - there is no framework to have any
        """Return False: there is no framework, so there are no native callbacks."""
        return False


class ReferenceRun:
    """The loops of training, evaluation and prediction."""

    native = None

    def fit(self, job: FitJob) -> None:
        """Train."""
        _Training(job).run()

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test."""
        _Bare(job, {}).evaluate(job.data, job.stage)

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""
        return _Bare(job, {}).evaluate(job.data, job.stage)


class _Bare(RunContext):
    """The run that handlers see, with what the running stage has measured, and the loop of an evaluation."""

    def __init__(self, job: FitJob | EvalJob, optimizers: Mapping[str, Optimizer]) -> None:
        super().__init__(job.hub, job.spec, job.config, optimizers, None)
        self.measured: dict[str, list[tuple[Tensor, int]]] = {}
        self.prefix = ""
        self.size: int | None = None

    def log(self, name: str, value: Tensor | float) -> None:
        full = self.name_of(self.prefix, name)
        if self.size is None:
            self.hub.publish({full: float(value)})
        else:
            value = torch.as_tensor(value).detach().float().reshape(())
            self.measured.setdefault(name, []).append((value, self.size))

    def backward(self, loss: Tensor) -> None:  # noqa: ARG002 - refused as a whole
        raise SpecError("run.backward() belongs to manual optimization.")

    def step(self, name: str | None = None) -> None:  # noqa: ARG002 - refused as a whole
        raise SpecError("run.step() belongs to manual optimization.")

    def evaluate(self, source: DataSource, stage: Stage) -> list[Any]:
        """Evaluate or predict, leaving the random number generators, the modes and the measured values as they were."""
        spec, hub, name = self.spec, self.hub, stage.value.upper()
        python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        generators = [(generator, generator.get_state()) for generator in source.generators]
        modes = {module: module.training for module in spec.model.modules()}
        outer = self.measured, self.prefix
        self.measured, self.prefix = {}, stage.value
        metrics = {key: _copy(metric) for key, metric in (spec.metrics or {}).items()}
        outputs = []
        spec.model.eval()
        hub.fire(Event[f"{name}_START"])
        with torch.no_grad():
            for batch, _ in _batches(source, hub.state.epoch, None):
                self.size = _size(batch)
                hub.fire(Event[f"{name}_BATCH_START"])
                if stage is Stage.PREDICT:
                    outputs.append(_prediction(spec, batch))
                else:
                    _evaluation(spec, self, batch, metrics)
                hub.fire(Event[f"{name}_BATCH_END"])
                self.size = None
        if stage is not Stage.PREDICT:
            hub.publish(_results(stage.value, self.measured, metrics))
        hub.fire(Event[f"{name}_END"])
        for module, training in modes.items():
            module.training = training
        self.measured, self.prefix = outer
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for generator, state in generators:
            generator.set_state(state)
        return outputs


class _Training(_Bare):
    """The training loop."""

    def __init__(self, job: FitJob) -> None:
        super().__init__(job, job.optimizers)
        self.job = job
        self.prefix = "train"
        self.metrics = {name: _copy(metric) for name, metric in (job.spec.metrics or {}).items()}
        self.optimizer = next(iter(job.optimizers.values()))
        self.steps = dict.fromkeys(job.optimizers, 0)
        self.kept: list[Any] | None = [] if job.train.repeat else None
        self.epochs_done = 0
        self.validated = False
        self.stepped = False
        time_limit = job.config.max_time
        self.deadline = time.monotonic() + time_limit.total_seconds() if isinstance(time_limit, timedelta) else None

    def run(self) -> None:
        """Train, epoch by epoch."""
        state, hub, config = self.state, self.hub, self.config
        if not self.model.training:
            self.model.train()
        hub.fire(Event.FIT_START)
        while not self.stops() and (config.epochs is None or self.epochs_done < config.epochs):
            state.epoch, hub.epoch_metrics, self.measured = self.epochs_done, {}, {}
            for metric in self.metrics.values():
                metric.reset()
            hub.fire(Event.EPOCH_START)
            self.epoch()
            self.epochs_done += 1
            hub.publish(_results("train", self.measured, self.metrics))
            hub.fire(Event.EPOCH_END)
            self.step_plateaus()
            hub.decide()
        hub.fire(Event.FIT_END)

    def epoch(self) -> None:
        """Train on the batches of one epoch, validating where it is due."""
        for index, (batch, last) in enumerate(_batches(self.job.train, self.state.epoch, self.kept)):
            self.size = _size(batch)
            self.hub.fire(Event.BATCH_START)
            loss = self.batch(batch, index, last)
            self.state.loss = None if loss is None else loss.detach()
            self.state.batch += 1
            self.after_batch(last)
            self.hub.fire(Event.BATCH_END)
            self.size = None
            if self.job.val is not None and self.validates(index + 1, last):
                self.evaluate(self.job.val, Stage.VAL)
                self.validated = True
            if self.stops():
                return

    def after_batch(self, last: bool) -> None:
        """Step the schedulers that count epochs, and look at the limits."""
        for schedule in self.job.schedules if last else ():
            epochs = schedule.rule.interval == "epoch" and not schedule.plateau
            if epochs and (self.epochs_done + 1) % schedule.rule.frequency == 0:
                schedule.scheduler.step()
        if self.config.max_steps != -1 and self.state.step >= self.config.max_steps:
            self.hub.stop_reason = "max_steps"
        elif self.deadline is not None and time.monotonic() >= self.deadline:
            self.hub.stop_reason = self.hub.stop_reason or "max_time"

    def batch(self, batch: Any, index: int, last: bool) -> Tensor | None:
        """Train on one batch and return its loss."""
        accumulate = self.config.accumulate_grad_batches
        if not self.spec.automatic_optimization:
            self.stepped = False
            result = self.spec.training_step(self, batch)  # type: ignore[misc]
            return None if result is None else self.measure(*_step_result(result))
        if isinstance(self.optimizer, torch.optim.LBFGS):
            return self.closure_batch(batch)
        if index % accumulate == 0:
            self.optimizer.zero_grad()
        loss = self.measure(*_training_loss(self.spec, batch))
        if loss.numel() != 1 or not loss.requires_grad:
            raise SpecError(f"the loss must be one number with a gradient; got {loss!r}.")
        (loss if accumulate == 1 else loss / accumulate).backward()  # type: ignore[no-untyped-call]
        self.hub.fire(Event.BACKWARD_END)
        if (index + 1) % accumulate == 0 or last:
            self.clip(self.optimizer)
            self.optimizer.step()
            self.state.step += 1
            self.after_step(next(iter(self.optimizers)))
        return loss

    def closure_batch(self, batch: Any) -> Tensor:
        """Let the optimizer evaluate the batch as often as it likes; the first evaluation counts."""
        first: list[Tensor] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss, values, pair = _training_loss(self.spec, batch)
            if not first:
                first.append(self.measure(loss, values, pair).detach())
            loss.backward()  # type: ignore[no-untyped-call]
            self.hub.fire(Event.BACKWARD_END)
            self.clip(self.optimizer)
            return loss

        self.optimizer.step(closure)  # type: ignore[arg-type]
        self.state.step += 1
        self.after_step(next(iter(self.optimizers)))
        return first[0]

    def backward(self, loss: Tensor) -> None:
        if self.spec.automatic_optimization:
            raise SpecError("run.backward() belongs to manual optimization.")
        loss.backward()  # type: ignore[no-untyped-call]
        self.hub.fire(Event.BACKWARD_END)

    def step(self, name: str | None = None) -> None:
        if self.spec.automatic_optimization or (name is None and len(self.optimizers) > 1):
            raise SpecError("run.step() belongs to manual optimization, and names one of several optimizers.")
        name = name or next(iter(self.optimizers))
        if name not in self.optimizers:
            raise SpecError(f"run.step({name!r}): there is no such optimizer.")
        self.clip(self.optimizers[name])
        self.optimizers[name].step()
        self.state.step += not self.stepped
        self.stepped = True
        self.after_step(name)
        self.optimizers[name].zero_grad()

    def clip(self, optimizer: Optimizer) -> None:
        """Clip all gradients of one optimizer."""
        value = self.config.gradient_clip_val
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if value and self.config.gradient_clip_algorithm == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, value)
        elif value:
            torch.nn.utils.clip_grad_value_(parameters, value)

    def after_step(self, name: str) -> None:
        """Announce a step, and step the schedulers that count the steps of that optimizer."""
        self.hub.fire(Event.OPTIMIZER_STEP)
        self.steps[name] += 1
        for schedule in self.job.schedules:
            counts = schedule.optimizer_name == name and schedule.rule.interval == "step"
            if counts and self.steps[name] % schedule.rule.frequency == 0:
                schedule.scheduler.step()

    def step_plateaus(self) -> None:
        """Step the schedulers that wait for a metric of the epoch."""
        for schedule in self.job.schedules:
            monitor = schedule.rule.monitor
            if monitor is None or (self.state.epoch + 1) % schedule.rule.frequency:
                continue
            if monitor in self.hub.epoch_metrics:
                schedule.scheduler.step(self.hub.epoch_metrics[monitor])  # type: ignore[arg-type]
            elif monitor not in self.state.metrics and not (
                monitor.startswith("val/") and self.job.val is not None and not self.validated
            ):
                raise unknown_monitor(monitor, self.state.metrics)

    def measure(self, loss: Tensor, values: dict[str, Any], pair: Any) -> Tensor:
        """Remember the loss and the logged values, feed the metrics, and return the loss."""
        self.measured.setdefault("loss", []).append((loss.detach().float(), self.size or 0))
        for name, value in values.items():
            self.log(name, value)
        if pair is not None:
            _feed(self, self.metrics, *pair)
        return loss

    def stops(self) -> bool:
        """Return whether the run ends now."""
        if self.hub.stop_reason == "max_steps":
            return True
        enough_epochs = self.epochs_done >= (self.config.min_epochs or 0)
        enough_steps = self.state.step >= (self.config.min_steps or 0)
        return self.hub.stop_reason is not None and enough_epochs and enough_steps

    def validates(self, done: int, last: bool) -> bool:
        """Return whether to validate after ``done`` batches of the epoch."""
        every, interval = self.config.check_val_every_n_epoch, self.config.val_check_interval
        if every is not None and (self.state.epoch + 1) % every != 0:
            return False
        if self.stops():
            return True
        if interval == 1.0 and isinstance(interval, float):
            return last
        if isinstance(interval, float):
            return done % max(1, int((self.job.train.length or 0) * interval)) == 0
        return (self.state.batch if every is None else done) % interval == 0


def _training_loss(spec: Any, batch: Any) -> tuple[Tensor, dict[str, Any], Any]:
    """Return the loss, the values to log and the (output, target) for the metrics."""
    if spec.training_step is None:
        inputs, target = _pair(batch)
        output = spec.model(inputs)
        return spec.loss(output, target), {}, (output, target)
    return _step_result(spec.training_step(spec.model, batch))


def _step_result(result: Any) -> tuple[Tensor, dict[str, Any], Any]:
    if isinstance(result, Tensor):
        return result, {}, None
    values = dict(result) if isinstance(result, dict) else {}
    loss = values.pop("loss", None)
    if not isinstance(loss, Tensor):
        raise SpecError(f"training_step must return the loss, or a mapping with it; it returned {result!r}.")
    pair = (values.pop("output"), values.pop("target")) if "output" in values and "target" in values else None
    return loss, values, pair


def _evaluation(spec: Any, run: _Bare, batch: Any, metrics: Any) -> None:
    if spec.validation_step is None:
        inputs, target = _pair(batch)
        values: Any = (spec.model(inputs), target)
    else:
        values = spec.validation_step(spec.model, batch)
    if isinstance(values, Tensor):
        values = {"loss": values}
    if isinstance(values, tuple):
        values = {"output": values[0], "target": values[1]}
    values = dict(values or {})
    if "output" in values and "target" in values:
        output, target = values.pop("output"), values.pop("target")
        if spec.loss is not None and "loss" not in values:
            values["loss"] = spec.loss(output, target)
        _feed(run, metrics, output, target)
    if "loss" in values:
        run.measured.setdefault("loss", []).append((values.pop("loss").detach().float(), run.size or 0))
    for name, value in values.items():
        run.log(name, value)


def _prediction(spec: Any, batch: Any) -> Any:
    if spec.predict_step is not None:
        return spec.predict_step(spec.model, batch)
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2):
        return spec.model(batch[0])
    return spec.model(batch["input"] if isinstance(batch, dict) and "input" in batch else batch)


def _pair(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, (tuple, list)) and len(batch) == 2:  # noqa: PLR2004 - input and target
        return batch[0], batch[1]
    if isinstance(batch, dict) and "input" in batch and "target" in batch:
        return batch["input"], batch["target"]
    return unpack(batch)  # raises, in the library's words


def _batches(source: DataSource, epoch: int, kept: list[Any] | None) -> Iterator[tuple[Any, bool]]:
    """Yield each batch of one epoch, and whether it is the last; fill or repeat ``kept``."""
    place = source.place or (lambda batch: batch)
    if kept:
        for number, batch in enumerate(kept, 1):
            yield place(batch), number == len(kept)
        return
    for batch, last in _read(source, epoch):
        if kept is not None:
            kept.append(batch)
        yield place(batch), last


def _read(source: DataSource, epoch: int) -> Iterator[tuple[Any, bool]]:
    loader: Any = source.loader
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    iterator = iter(loader)
    if source.length is not None:  # the length is known: nothing is read ahead
        for number in range(1, source.length + 1):
            yield next(iterator), number == source.length
        return
    number, batch = 1, next(iterator, iterator)
    if batch is iterator and (source.required or iterator is loader):
        raise DataError(f"the {source.stage} loader is empty.", hint="give one that yields batches.")
    while batch is not iterator:
        following = iterator if number == source.limit and isinstance(source.limit, int) else next(iterator, iterator)
        yield batch, following is iterator
        number, batch = number + 1, following


def _size(batch: Any) -> int:
    """Return the first dimension of the first tensor in the batch."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    for part in parts:
        if isinstance(part, (Tensor, dict, tuple, list)):
            return _size(part)
    return 1


def _feed(run: _Bare, metrics: Mapping[str, Any], output: Any, target: Any) -> None:
    output = output.detach() if isinstance(output, Tensor) else output
    for name, metric in metrics.items():
        if type(metric).__module__.startswith("ignite"):
            metric.update((output, target))
        elif hasattr(metric, "update"):
            metric.update(output, target)
        else:
            with torch.no_grad():
                metric.values.append((torch.as_tensor(metric.function(output, target)).float(), run.size))
        run.measured.setdefault(f"fed {name}", [])


class _Averaged:
    """A plain function as a metric."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.reset()

    def reset(self) -> None:
        self.values: list[tuple[Tensor, int]] = []

    def compute(self) -> Tensor:
        return _mean(self.values)


def _copy(metric: Any) -> Any:
    if isinstance(metric, str):
        return named_metric(metric)
    if type(metric).__module__.startswith("ignite") or hasattr(metric, "update"):
        metric = copy.deepcopy(metric)
        metric.reset()
        return metric
    return _Averaged(metric)


def _mean(values: list[tuple[Tensor, int]]) -> Tensor:
    """Return Σ(value·n) / Σn, summed in float32 in the order of the batches."""
    total = torch.zeros((), device=values[0][0].device)
    for value, size in values:
        total = total + value * size
    return total / sum(size for _, size in values)


def _results(prefix: str, averages: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {name: _mean(values) for name, values in averages.items() if values}
    for name, metric in metrics.items():
        if f"fed {name}" in averages:
            value = metric.compute()
            if isinstance(value, dict):
                found |= {f"{name}_{key}": item for key, item in value.items()}
            elif isinstance(value, Tensor) and value.ndim == 1:
                found |= {f"{name}_{position}": item for position, item in enumerate(value)}
            else:
                found[name] = value
    return {name if "/" in name else f"{prefix}/{name}": float(value) for name, value in found.items()}
