"""The bare PyTorch loop, as a person would write it: the oracle of every test and the floor of every benchmark.

It shares no training code with the core (no step, no program, no meter, no batches wrapper, no stop rule): an oracle
that shares the code under test proves nothing. It is naive on purpose; do not make it clever.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unitrain.context import RunContext
from unitrain.errors import DataError, SpecError
from unitrain.events import Event
from unitrain.protocol import Feature, Stage, Translation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.config import TrainerConfig
    from unitrain.data import DataSource
    from unitrain.protocol import EvalJob, FitJob


class ReferenceAdapter:
    """Runs a spec with no framework at all."""

    name: ClassVar[str] = "reference"
    requires: ClassVar[tuple[str, ...]] = ()
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
    events: ClassVar[Mapping[Event, str]] = {event: "the loop" for event in Event}
    unmapped: ClassVar[Mapping[str, str]] = {}
    options: ClassVar[Mapping[str, Translation]] = {}

    def build(self, config: TrainerConfig, device: torch.device, callbacks: Sequence[Any]) -> ReferenceRun:  # noqa: ARG002
        """Return a run; there is nothing to build."""
        return ReferenceRun()

    def accepts_callback(self, callback: object) -> bool:  # noqa: ARG002 - there is no framework to have any
        """Return False: there is no framework, so there are no native callbacks."""
        return False


class ReferenceRun:
    """The loops of training, evaluation and prediction."""

    native = None

    def fit(self, job: FitJob) -> None:  # noqa: C901, PLR0912, PLR0915 - one loop, read from top to bottom
        """Train."""
        spec, config, hub, model = job.spec, job.config, job.hub, job.spec.model
        run = _Loop(job.hub, job.spec, job.config, job.optimizers, None)
        run.averages, run.prefix = {}, "train"
        schedulers = [(s.optimizer_name, s.scheduler, s.rule, s.plateau) for s in job.schedules]
        run.schedulers, run.steps = schedulers, dict.fromkeys(job.optimizers, 0)
        metrics = {name: _copy(metric) for name, metric in (spec.metrics or {}).items()}
        accumulate = config.accumulate_grad_batches
        optimizer = next(iter(job.optimizers.values()))
        deadline = None if config.max_time is None else time.monotonic() + config.max_time.total_seconds()  # type: ignore[union-attr]
        kept: list[Any] | None = [] if job.train.repeat else None
        epochs_done, validated = 0, False

        def granted() -> bool:
            if hub.stop_reason == "max_steps":
                return True
            enough = epochs_done >= (config.min_epochs or 0) and hub.state.step >= (config.min_steps or 0)
            return hub.stop_reason is not None and enough

        if not model.training:
            model.train()
        hub.fire(Event.FIT_START)
        while not granted() and (config.epochs is None or epochs_done < config.epochs):
            hub.state.epoch, hub.epoch_metrics = epochs_done, {}
            run.averages = {}
            for metric in metrics.values():
                metric.reset()
            hub.fire(Event.EPOCH_START)

            done = 0
            for index, (batch, last) in enumerate(_batches(job.train, job.device, hub.state.epoch, kept)):
                run.size = _size(batch)
                hub.fire(Event.BATCH_START)
                if not spec.automatic_optimization:
                    run.stepped = False
                    loss = _manual(spec, run, batch, metrics)
                elif _wants_closure(optimizer):
                    loss = _closure(spec, run, batch, metrics, optimizer)
                else:
                    if index % accumulate == 0:
                        optimizer.zero_grad()
                    loss = run.measure(*_training_loss(spec, batch), metrics)
                    (loss if accumulate == 1 else loss / accumulate).backward()  # type: ignore[no-untyped-call]
                    hub.fire(Event.BACKWARD_END)
                    if (index + 1) % accumulate == 0 or last:
                        run.clip_and_step(optimizer)
                        hub.state.step += 1
                        hub.fire(Event.OPTIMIZER_STEP)
                        run.step_schedulers(next(iter(job.optimizers)))
                hub.state.loss = None if loss is None else loss.detach()
                hub.state.batch += 1
                done += 1
                if last:
                    for _, scheduler, rule, plateau in schedulers:
                        if rule.interval == "epoch" and not plateau and (epochs_done + 1) % rule.frequency == 0:
                            scheduler.step()
                if config.max_steps != -1 and hub.state.step >= config.max_steps:
                    hub.stop_reason = "max_steps"
                elif deadline is not None and time.monotonic() >= deadline and hub.stop_reason is None:
                    hub.stop_reason = "max_time"
                hub.fire(Event.BATCH_END)
                run.size = None
                if job.val is not None and _validates(
                    config, job.train, epochs_done, done, hub.state.batch, last, granted()
                ):
                    self._evaluate(run, job.val, Stage.VAL, job.device)
                    validated = True
                if granted():
                    break

            epochs_done += 1
            hub.publish(_results("train", run.averages, metrics))
            hub.fire(Event.EPOCH_END)
            for _, scheduler, rule, plateau in schedulers:
                if plateau and (hub.state.epoch + 1) % rule.frequency == 0:
                    if rule.monitor in hub.epoch_metrics:
                        scheduler.step(hub.epoch_metrics[rule.monitor])  # type: ignore[arg-type]
                    elif rule.monitor not in hub.state.metrics and (validated or not rule.monitor.startswith("val/")):  # type: ignore[union-attr]
                        from unitrain.optimization import unknown_monitor  # noqa: PLC0415 - the wording of an error

                        raise unknown_monitor(rule.monitor, hub.state.metrics)  # type: ignore[arg-type]
        hub.fire(Event.FIT_END)

    def evaluate(self, job: EvalJob) -> None:
        """Validate or test."""
        self._evaluate(_Loop(job.hub, job.spec, job.config, {}, None), job.data, job.stage, job.device)

    def predict(self, job: EvalJob) -> list[Any]:
        """Return the predictions, one item a batch."""
        return self._evaluate(_Loop(job.hub, job.spec, job.config, {}, None), job.data, job.stage, job.device)

    def _evaluate(self, run: _Loop, source: DataSource, stage: Stage, device: torch.device) -> list[Any]:
        spec, hub = run.spec, run.hub
        name = stage.value.upper()
        python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        generators = [(generator, generator.get_state()) for generator in source.generators]
        was_training = {module: module.training for module in spec.model.modules()}
        outer = run.averages, run.prefix
        run.averages, run.prefix = {}, stage.value
        metrics = {key: _copy(metric) for key, metric in (spec.metrics or {}).items()}
        outputs = []
        spec.model.eval()
        hub.fire(Event[f"{name}_START"])
        with torch.no_grad():
            for batch, _ in _batches(source, device, hub.state.epoch, None):
                run.size = _size(batch)
                hub.fire(Event[f"{name}_BATCH_START"])
                if stage is Stage.PREDICT:
                    outputs.append(_prediction(spec, batch))
                else:
                    _evaluation(spec, run, batch, metrics)
                hub.fire(Event[f"{name}_BATCH_END"])
                run.size = None
        if stage is not Stage.PREDICT:
            hub.publish(_results(stage.value, run.averages, metrics))
        hub.fire(Event[f"{name}_END"])
        for module, training in was_training.items():
            module.training = training
        run.averages, run.prefix = outer
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for generator, state in generators:
            generator.set_state(state)
        return outputs


class _Loop(RunContext):
    """The run that handlers see, with the sums of the running stage."""

    averages: ClassVar[dict[str, list[tuple[Tensor, int]]]] = {}
    prefix: str = ""
    size: int | None = None
    stepped = False
    schedulers: Sequence[Any] = ()
    steps: ClassVar[dict[str, int]] = {}

    def log(self, name: str, value: Tensor | float) -> None:
        """Remember a value of a batch, or publish it at once."""
        if self.size is None:
            self.hub.publish({name if "/" in name else f"{self.prefix}/{name}": float(value)})
        else:
            self.averages.setdefault(name, []).append((torch.as_tensor(value).detach().float().reshape(()), self.size))

    def measure(self, loss: Tensor, values: dict[str, Any], pair: Any, metrics: Mapping[str, Any]) -> Tensor:
        """Remember the loss and the logged values, feed the metrics, and return the loss."""
        self.averages.setdefault("loss", []).append((loss.detach().float(), self.size or 0))
        for name, value in values.items():
            self.log(name, value)
        if pair is not None:
            _feed(self, metrics, *pair)
        return loss

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, for manual optimization."""
        if self.spec.automatic_optimization:
            raise SpecError("run.backward() belongs to manual optimization.")
        loss.backward()  # type: ignore[no-untyped-call]
        self.hub.fire(Event.BACKWARD_END)

    def step(self, name: str | None = None) -> None:
        """Clip, step and clear one optimizer, for manual optimization."""
        if self.spec.automatic_optimization or (name is None and len(self.optimizers) > 1):
            raise SpecError("run.step() belongs to manual optimization and names an optimizer.")
        name = name or next(iter(self.optimizers))
        self.clip_and_step(self.optimizers[name])
        if not self.stepped:
            self.stepped = True
            self.state.step += 1
        self.hub.fire(Event.OPTIMIZER_STEP)
        self.step_schedulers(name)
        self.optimizers[name].zero_grad()

    def clip(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip all gradients of one optimizer."""
        value = self.config.gradient_clip_val
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if value and self.config.gradient_clip_algorithm == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, value)
        elif value:
            torch.nn.utils.clip_grad_value_(parameters, value)

    def clip_and_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, then step."""
        self.clip(optimizer)
        optimizer.step()

    def step_schedulers(self, name: str) -> None:
        """Step the schedulers that count the steps of one optimizer."""
        self.steps[name] += 1
        for owner, scheduler, rule, _ in self.schedulers:
            if owner == name and rule.interval == "step" and self.steps[name] % rule.frequency == 0:
                scheduler.step()


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
    values = dict(result)
    loss = values.pop("loss")
    pair = (values.pop("output"), values.pop("target")) if "output" in values and "target" in values else None
    return loss, values, pair


def _closure(spec: Any, run: _Loop, batch: Any, metrics: Any, optimizer: torch.optim.Optimizer) -> Tensor:
    first: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss, values, pair = _training_loss(spec, batch)
        if not first:
            first.append(run.measure(loss, values, pair, metrics).detach())
        loss.backward()  # type: ignore[no-untyped-call]
        run.hub.fire(Event.BACKWARD_END)
        run.clip(optimizer)
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    run.state.step += 1
    run.hub.fire(Event.OPTIMIZER_STEP)
    run.step_schedulers(next(iter(run.optimizers)))
    return first[0]


def _manual(spec: Any, run: _Loop, batch: Any, metrics: Any) -> Tensor | None:
    result = spec.training_step(run, batch)
    return None if result is None else run.measure(*_step_result(result), metrics)


def _evaluation(spec: Any, run: _Loop, batch: Any, metrics: Any) -> None:
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
    raise DataError(f"a batch must be (input, target) or a mapping of both; got {batch!r}.")


def _validates(
    config: TrainerConfig, train: DataSource, epoch: int, done: int, total: int, last: bool, stops: bool
) -> bool:
    every = config.check_val_every_n_epoch
    if every is not None and (epoch + 1) % every != 0:
        return False
    interval = config.val_check_interval
    if stops:
        return True
    if isinstance(interval, float):
        return last if interval == 1.0 else done % max(1, int((train.length or 0) * interval)) == 0
    return (total if every is None else done) % interval == 0


def _batches(
    source: DataSource, device: torch.device, epoch: int, kept: list[Any] | None
) -> Iterator[tuple[Any, bool]]:
    """Yield each batch of one epoch on the device, and whether it is the last."""
    if kept:
        for number, batch in enumerate(kept, 1):
            yield batch, number == len(kept)
        return
    loader: Any = source.loader
    for sampler in (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None)):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
    length, number, iterator = source.length, 0, iter(loader)
    stop = length if length is not None else source.limit if isinstance(source.limit, int) else None
    batch = next(iterator, iterator)
    if batch is iterator and source.stage == "train":
        raise DataError(f"the {source.stage} loader is empty.")
    while batch is not iterator:
        number += 1
        if length is not None:  # the length is known: nothing is read ahead
            yield _placed(batch, device, source, kept), number == length
            batch = iterator if number == length else next(iterator, iterator)
        else:
            following = iterator if number == stop else next(iterator, iterator)
            yield _placed(batch, device, source, kept), following is iterator
            batch = following


def _placed(batch: Any, device: torch.device, source: DataSource, kept: list[Any] | None) -> Any:
    if kept is not None:
        kept.append(batch)
    return batch if source.place is None else source.place(batch)


def _size(batch: Any) -> int:
    """Return the first dimension of the first tensor in the batch."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (tuple, list)) else ()
    for part in parts:
        if isinstance(part, (Tensor, dict, tuple, list)):
            return _size(part)
    return 1


def _wants_closure(optimizer: torch.optim.Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.LBFGS)


def _feed(run: _Loop, metrics: Mapping[str, Any], output: Any, target: Any) -> None:
    output = output.detach() if isinstance(output, Tensor) else output
    for name, metric in metrics.items():
        if type(metric).__module__.startswith("ignite"):
            metric.update((output, target))
        elif hasattr(metric, "update"):
            metric.update(output, target)
        else:
            with torch.no_grad():
                metric.values.append((torch.as_tensor(metric.function(output, target)).float(), run.size))
        run.averages.setdefault(f"fed {name}", [])


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
    import copy  # noqa: PLC0415 - naive on purpose

    if isinstance(metric, str):
        from unitrain.metrics import metric as named  # noqa: PLC0415 - a name means what metric() says

        return named(metric)
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
