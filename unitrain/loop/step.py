"""The training and evaluation steps, shared by all backends.

unitrain defines the order *clear → forward → backward → clip → step → schedule*, including accumulation and metrics. A
backend provides ``Primitives``: Lightning's own on Lightning, torch's on Ignite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from unitrain.data.batch import describe, model_input, unpack
from unitrain.distributed.strategies.ddp import Replica, ddp_options
from unitrain.distributed.strategies.fsdp import ShardedStep
from unitrain.errors import SpecError
from unitrain.loop.misfits import explain_misfit
from unitrain.loop.precision import outside, within
from unitrain.loop.step_values import step_values
from unitrain.metrics.metric import LOSS, is_number
from unitrain.optim.optimizers import all_parameters, needs_closure
from unitrain.run.hub import Event
from unitrain.utilities.profiling import BACKWARD, OPTIMIZER, STEP

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.optim import Optimizer

    from unitrain.backends.protocol import FitJob
    from unitrain.loop.meter import StageMeter
    from unitrain.loop.precision import Context
    from unitrain.spec import TrainSpec
    from unitrain.utilities.profiling import Clock

_OUTPUT, _TARGET = "output", "target"
_PAIR = 2


class Primitives(Protocol):
    """A backend's operations within a step, including loss scaling.

    Attributes:
        context: Creates the context of a forward pass, or None.
        scaler: Scales the loss, or None.
    """

    context: Context
    scaler: GradScaler | None

    def zero_grad(self, optimizer: Optimizer) -> None:
        """Clear the gradients."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, a scalar."""

    def clip(self, optimizer: Optimizer, value: float, algorithm: str) -> None:
        """Clip the gradients of all parameters of ``optimizer`` together."""

    def step(self, optimizer: Optimizer, closure: Callable[[], Tensor] | None = None) -> None:
        """Step ``optimizer``; it may evaluate a closure any number of times."""

    def update(self) -> None:
        """Update the loss scale after a batch; only called if there is a scaler."""


_DENSE = "gradient_clip_val=None, or dense gradients: nn.Embedding(..., sparse=False)."


class TrainStep:
    """A training step on one batch.

    Attributes:
        loss: The loss of the last batch, detached and not divided.

    Args:
        job: The fit to run.
        primitives: The backend's operations.
        meter: Receives the values of the step.
    """

    def __init__(self, job: FitJob, primitives: Primitives, meter: StageMeter) -> None:
        self._spec = job.spec
        self._hub = job.hub
        self._primitives = primitives
        self._meter = meter
        self._optimizers = job.optimizers
        self._schedules = job.schedules
        self._clips = job.config.gradient_clip_val is not None
        self._clip_value = job.config.gradient_clip_val or 0.0
        self._clip_algorithm = job.config.gradient_clip_algorithm
        self._optimizer = next(iter(job.optimizers.values()))
        self._name = next(iter(job.optimizers))
        self._stepped = False
        self._scaled = primitives.scaler is not None
        self._outside = outside(job.config.precision, job.device)
        self._model = within(primitives.context, job.spec.model)
        self._loss = within(primitives.context, job.spec.loss)
        self._training_step = within(primitives.context, job.spec.training_step)
        self.loss: Tensor | None = None
        clock = job.hub.clock
        if clock is not None:
            self._primitives = _measured(primitives, clock)
            if not job.spec.automatic_optimization:
                self._training_step = clock.timed(STEP, self._training_step)
        self._team = job.team
        self._replica = _replica(job, self._loss_of)
        self._forward = self._loss_of if self._replica is None else self._replica.forward
        if clock is not None:
            self._forward = clock.timed(STEP, self._forward)
        self.run = self._choose()

    def _choose(self) -> Callable[[Any, int, int, bool], None]:
        if not self._spec.automatic_optimization:
            return self._manual
        return self._with_closure if needs_closure(self._optimizer) else self._plain

    def _plain(self, batch: Any, weight: int, index: int, last: bool) -> None:
        """Run batch number ``index`` (from 0) of the epoch; ``last`` says whether it is the epoch's last."""
        accumulate = self._hub.context.accumulate_grad_batches  # a callback may change it
        stepping = last or (index + 1) % accumulate == 0
        if self._replica is not None:
            self._replica.synchronize(now=stepping)
        if index % accumulate == 0:
            self._primitives.zero_grad(self._optimizer)
        loss = self._forward(batch, weight)
        self._backward(loss if accumulate == 1 else loss / accumulate)
        if stepping:
            if self._clips:
                self._clip(self._optimizer)
            self._primitives.step(self._optimizer)
            if self._scaled:
                self._primitives.update()
            self._hub.state.step += 1
            self._after_step(self._name)

    def _with_closure(self, batch: Any, weight: int, index: int, last: bool) -> None:  # noqa: ARG002 - one signature
        """Let the optimizer call the closure as often as needed; only the first call is measured.

        There is no accumulation: ``session/prepare.py`` refuses it for such an optimizer.
        """
        measured: list[Tensor] = []

        def closure() -> Tensor:
            self._primitives.zero_grad(self._optimizer)
            loss = self._forward(batch, None if measured else weight)
            if not measured:
                measured.append(loss.detach())
            self._backward(loss)
            if self._clips:
                self._clip(self._optimizer)
            return loss

        self._primitives.step(self._optimizer, closure)
        self.loss = measured[0]
        self._hub.state.step += 1
        self._after_step(self._name)

    def _manual(self, batch: Any, weight: int, index: int, last: bool) -> None:  # noqa: ARG002 - one signature
        self._stepped = False
        self.loss = None
        result = self._training_step(self._hub.context, batch)
        if self._scaled:
            self._primitives.update()
        if result is not None:
            self._read(result, weight)

    def manual_backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, for a manual training step."""
        with self._outside():
            self._backward(loss)

    def manual_step(self, name: str) -> None:
        """Clip, step and clear one optimizer, for a manual training step."""
        with self._outside():
            self._manual_step(name, self._optimizers[name])

    def _manual_step(self, name: str, optimizer: Optimizer) -> None:
        self._team.average_gradients(all_parameters(optimizer))
        if self._clips:
            self._clip(optimizer)
        self._primitives.step(optimizer)
        if not self._stepped:
            self._stepped = True
            self._hub.state.step += 1
        self._after_step(name)
        self._primitives.zero_grad(optimizer)

    def _backward(self, loss: Tensor) -> None:
        self._primitives.backward(loss)
        self._hub.fire(Event.BACKWARD_END)

    def _clip(self, optimizer: Optimizer) -> None:
        try:
            self._primitives.clip(optimizer, self._clip_value, self._clip_algorithm)
        except NotImplementedError as error:  # torch lists each of its kernels
            if any(one.grad is not None and one.grad.is_sparse for one in all_parameters(optimizer)):
                raise SpecError("sparse gradients cannot be clipped.", hint=_DENSE) from error
            raise

    def _after_step(self, name: str) -> None:
        self._hub.fire(Event.OPTIMIZER_STEP)
        for schedule in self._schedules:
            if schedule.optimizer_name == name:
                schedule.after_step()

    def _loss_of(self, batch: Any, weight: int | None) -> Tensor:
        """Return the loss of ``batch``; measure it unless ``weight`` is None."""
        spec = self._spec
        if spec.training_step is not None:
            return self._read(self._training_step(spec.model, batch), weight)
        inputs, target = unpack(batch)
        output: Any = NotImplemented
        try:
            output = self._model(inputs)
            loss: Tensor = self._loss(output, target)
        except Exception as error:
            explain_misfit(error, inputs, output)
            raise
        if weight is not None:
            self._meter.add_output(output, target, weight)
            self._measure(loss, weight)
        return loss

    def _read(self, result: Any, weight: int | None) -> Tensor:
        """Return the loss from the result of a custom step, and measure the rest."""
        if type(result) is dict:  # as of most steps; another mapping may be what a model returned
            values = result.copy()
        else:
            values = step_values(result) if isinstance(result, Mapping) else {LOSS: result}
        loss = values.pop(LOSS, None)
        if not isinstance(loss, Tensor):
            raise SpecError(
                f'training_step must return the loss, or a mapping with "loss"; it returned {describe(result)}.',
                hint='return loss, or {"loss": loss, "name": value}.',
            )
        if weight is not None:
            measure_values(self._meter, values, weight)
            self._measure(loss, weight)
        return loss

    def _measure(self, loss: Tensor, weight: int) -> None:
        if self.loss is None:
            check_loss(loss, trained=self._spec.automatic_optimization)
        self.loss = loss.detach()
        self._meter.loss.add(self.loss, weight)


def _measured(primitives: Primitives, clock: Clock) -> Any:
    """Return ``primitives`` with each part of a step profiled."""
    return SimpleNamespace(
        zero_grad=primitives.zero_grad,
        backward=clock.timed(BACKWARD, primitives.backward),
        clip=primitives.clip,
        step=clock.timed(OPTIMIZER, primitives.step),
        update=primitives.update,
    )


def _replica(job: FitJob, forward: Callable[..., Tensor]) -> Replica | ShardedStep | None:
    """Return the replica that averages gradients in the backward pass; in manual optimization ``run.step()`` does."""
    if job.sharded is not None:
        return ShardedStep(job.sharded, forward)
    if job.team.size == 1 or not job.spec.automatic_optimization:
        return None
    unused = any(callback.leaves_unused for callback in job.callbacks.values())
    return Replica(job.spec.model, forward, ddp_options(job.config, job.team.size, unused=unused))


class EvalStep:
    """An evaluation step on one batch, without gradients.

    Args:
        spec: The spec to evaluate.
        meter: Takes what the step measures.
        context: Makes what surrounds a forward pass, or None.
    """

    def __init__(self, spec: TrainSpec, meter: StageMeter, context: Context = None) -> None:
        self._spec = spec
        self._model = within(context, spec.model)
        self._loss = within(context, spec.loss)
        self._validation_step = within(context, spec.validation_step)
        self._meter = meter

    def run(self, batch: Any, weight: int) -> None:
        """Evaluate ``batch``, ``weight`` samples."""
        spec = self._spec
        if spec.validation_step is None:
            inputs, target = unpack(batch)
            output: Any = NotImplemented
            try:
                output = self._model(inputs)
                loss = None if self._loss is None else self._loss(output, target)
            except Exception as error:
                explain_misfit(error, inputs, output)
                raise
            self._take(loss, output, target, weight)
            return
        result = self._validation_step(spec.model, batch)
        if isinstance(result, Mapping):
            self._read(result.copy() if type(result) is dict else step_values(result), weight)
        elif isinstance(result, Tensor):
            self._add_loss(result, weight)
        elif isinstance(result, tuple) and len(result) == _PAIR:
            self._measure(result[0], result[1], weight)
        elif result is not None:
            raise SpecError(
                "validation_step must return (output, target), a mapping of values, the loss, or nothing;"
                f" it returned {describe(result)}.",
                hint="return output, target",
            )

    def _read(self, values: dict[str, Any], weight: int) -> None:
        loss = values.pop(LOSS, None)
        if loss is not None:
            self._add_loss(loss, weight)
        if loss is None and _OUTPUT in values and _TARGET in values:
            self._measure(values.pop(_OUTPUT), values.pop(_TARGET), weight)
        measure_values(self._meter, values, weight)

    def _measure(self, output: Any, target: Any, weight: int) -> None:
        self._take(None if self._loss is None else self._loss(output, target), output, target, weight)

    def _take(self, loss: Tensor | None, output: Any, target: Any, weight: int) -> None:
        if loss is not None:
            self._add_loss(loss, weight)
        self._meter.add_output(output, target, weight)

    def _add_loss(self, loss: Any, weight: int) -> None:
        # A tensor is looked at here, not in is_number: a call a batch costs.
        real = loss.numel() == 1 and not loss.is_complex() if isinstance(loss, Tensor) else is_number(loss)
        if not real:
            raise _not_a_number(loss)
        self._meter.loss.add(loss, weight)


def predict(spec: TrainSpec, batch: Any) -> Any:
    """Return the prediction for ``batch``."""
    if spec.predict_step is not None:
        return spec.predict_step(spec.model, batch)
    return spec.model(model_input(batch))


def measure_values(meter: StageMeter, values: dict[str, Any], weight: int) -> None:
    """Measure a custom step's values other than the loss: output and target feed the metrics, the rest is logged."""
    if _OUTPUT in values and _TARGET in values:
        meter.add_output(values.pop(_OUTPUT), values.pop(_TARGET), weight)
    meter.add_values(values, weight)


def check_loss(loss: Any, *, trained: bool) -> None:
    """Refuse a loss that cannot be trained on.

    Args:
        loss: The value returned by the loss or the step.
        trained: Whether backward will be called on it.

    Raises:
        SpecError: If it is not a single number, or requires no gradient although backward will be called.
    """
    if not isinstance(loss, Tensor) or not is_number(loss):
        raise _not_a_number(loss)
    if trained and not loss.requires_grad:
        raise SpecError(
            "the loss does not require grad: no trainable parameter contributed to it.",
            hint="check for .detach(), torch.no_grad() and requires_grad=False in the model and the step.",
        )


def _not_a_number(loss: Any) -> SpecError:
    is_complex = isinstance(loss, Tensor) and loss.is_complex()
    hint = "take its .abs() or .real." if is_complex else "reduce it, for example with .mean()."
    return SpecError(f"the loss must be a single number, got {describe(loss)}.", hint=hint)
