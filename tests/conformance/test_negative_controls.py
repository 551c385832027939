"""The suite can fail: one seeded fault at a time, in the shared code or in a backend, and it is caught."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from unitrain.backends.registry import find_adapter
from unitrain.data.batches import Batches
from unitrain.loop import fit as program
from unitrain.loop import step, torch_primitives
from unitrain.loop.evaluation import Evaluation
from unitrain.loop.fit import FitProgram
from unitrain.loop.meter import StageMeter
from unitrain.loop.precision import LossScaling
from unitrain.loop.step import EvalStep, TrainStep
from unitrain.loop.torch_primitives import ScaledPrimitives, TorchPrimitives
from unitrain.metrics.metric import Mean
from unitrain.optim.schedules import Schedule
from unitrain.run.hub import Event, EventHub
from unitrain.testing.conformance import AdapterConformance
from unitrain.utilities.rng import RngSnapshot
from unitrain.utilities.train_modes import ModuleModes
from unitrain_lightning.precision import MixedPrecision
from unitrain_lightning.primitives import LightningPrimitives

Patch = tuple[Any, str, Callable[..., Any]]


class FaultyAdapter:
    """A real adapter whose runs are made under a patch of one function."""

    def __init__(self, framework: str, patch: Patch) -> None:
        self._inner = find_adapter(framework)
        self._patch = patch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def build(self, *args: Any) -> Any:
        run = self._inner.build(*args)
        fit = run.fit

        def faulty_fit(job: Any) -> None:
            with _patched(*self._patch):
                fit(job)

        run.fit = faulty_fit
        return run


@contextmanager
def _patched(owner: type, name: str, fault: Callable[..., Any]) -> Iterator[None]:
    original = owner.__dict__[name]

    @functools.wraps(original)  # Ignite looks at a handler's signature
    def faulty(*args, **kwargs):
        return fault(original, *args, **kwargs)

    setattr(owner, name, faulty)
    try:
        yield
    finally:
        setattr(owner, name, original)


def clears_before_the_step(original, self, loss):
    original(self, loss)
    self._primitives.zero_grad(self._optimizer)


def never_clears(original, self, optimizer):
    if not hasattr(self, "cleared"):
        self.cleared = True
        original(self, optimizer)


def loses_a_scheduler_step(original, self, epoch):
    if epoch != 1:
        original(self, epoch)


def forgets_the_weight(original, self, value, weight):
    original(self, value, 1)


def draws_once_more(original, self):
    torch.rand(())
    return original(self)


def skips_the_last_batch(original, self, source, epoch, *position, **options):
    original(self, source, epoch, *position, **options)
    self.length = self._trusted = self._trusted - 1
    self._require_same_length = lambda: None


def swaps_two_events(original, self, event):
    original(self, {Event.BATCH_END: Event.BACKWARD_END, Event.BACKWARD_END: Event.BATCH_END}.get(event, event))


def counts_a_batch_twice(original, self, *, last):
    self.state.batch += 1
    original(self, last=last)


def divides_by_one_more(original, self, loss):
    batches = self._hub.context.accumulate_grad_batches
    original(self, loss if batches == 1 else loss * batches / (batches + 1))


def clips_nothing(original, self, optimizer):
    pass


def leaves_the_draws_of_validation(original, self):
    pass


def stays_in_eval_mode(original, self):
    self._model.eval()


def forgets_to_reset(original, self, device):
    if not hasattr(self, "was_reset"):
        self.was_reset = True
        original(self, device)


def validates_once_more(original, self, **position):
    return original(self, **position) or position["done"] == 1


def steps_twice(original, self, optimizer, closure=None):
    original(self, optimizer, closure)
    if closure is None:
        original(self, optimizer, closure)


def steps_the_plateau_first(original, self):
    for schedule in self._schedules:
        if schedule.plateau:
            schedule.scheduler.step(0.0)
    return original(self)


def publishes_after_the_event(original, self):
    compute, self._meter.compute = self._meter.compute, dict
    original(self)
    self._meter.compute = compute
    self._program.hub.publish(compute())


def forgets_to_update(original, self):
    if self._stepped:
        self.scaler.update(self.scaler.get_scale())
        self._unscaled.clear()
        self._stepped.clear()


def updates_after_each_step(original, self, optimizer):
    original(self, optimizer)
    self.update()


def steps_whatever_the_gradients_are(original, self, optimizer):
    self.unscale(optimizer)
    self._stepped.add(id(optimizer))
    optimizer.step()


def never_unscales(original, self, optimizer):
    self._unscaled.add(id(optimizer))
    self.scaler._per_optimizer_states[id(optimizer)]["stage"] = torch.amp.grad_scaler.OptState.UNSCALED
    found = self.scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
    found[torch.device("cpu")] = torch.zeros(())


def evaluates_in_float32(original, self, spec, meter, context=None):
    original(self, spec, meter)


def a_skipped_step_does_not_count(original, self, name):
    scaler = self._primitives.scaler
    if scaler.get_scale() >= getattr(self, "scale_before", 0):
        original(self, name)
    self.scale_before = scaler.get_scale()


def never_leaves_the_context(original, precision, device):
    return contextlib.nullcontext


def clips_before_it_unscales(original, self, optimizer, *args, **options):
    unscale, self._scaling.unscale = self._scaling.unscale, lambda one: None
    original(self, optimizer, *args, **options)
    self._scaling.unscale = unscale


def clips_lightning_before_it_unscales(original, self, optimizer, *args, **options):
    unscale, self.scaling.unscale = self.scaling.unscale, lambda one: None
    original(self, optimizer, *args, **options)
    self.scaling.unscale = unscale


def keeps_a_cache(original, *args):
    context = original(*args)
    return functools.partial(context.func, *context.args, **{**context.keywords, "cache_enabled": True})


def becomes_bf16(original, *args):
    context = original(*args)
    return functools.partial(context.func, *context.args, **{**context.keywords, "dtype": torch.bfloat16})


def keeps_a_lightning_cache(original, self):
    return torch.autocast(self.device, dtype=torch.bfloat16)


def becomes_bf16_on_lightning(original, self):
    return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=False)


SHARED: dict[str, tuple[Patch, str]] = {
    "wrong zero_grad order": ((TrainStep, "_backward", clears_before_the_step), "mlp-sgd-constant"),
    "wrong zero_grad order, accumulating": ((TrainStep, "_backward", clears_before_the_step), "accumulate-3"),
    "lost scheduler step": ((Schedule, "after_last_batch", loses_a_scheduler_step), "mlp-sgd-epoch"),
    "unweighted mean": ((Mean, "add", forgets_the_weight), "mlp-adamw-constant"),
    "extra draw": ((Batches, "__iter__", draws_once_more), "mlp-adamw-constant"),
    "skipped last batch": ((Batches, "__init__", skips_the_last_batch), "mlp-adamw-constant"),
    "swapped event": ((EventHub, "fire", swaps_two_events), "mlp-adamw-constant"),
    "batch counted twice": ((FitProgram, "_batch_end", counts_a_batch_twice), "list"),
    "wrong division of the loss": ((TrainStep, "_backward", divides_by_one_more), "accumulate-3"),
    "no clipping": ((TrainStep, "_clip", clips_nothing), "clip-norm"),
    "validation draws leave a trace": ((RngSnapshot, "restore", leaves_the_draws_of_validation), "drawing-validation"),
    "metrics not reset": ((StageMeter, "reset", forgets_to_reset), "mlp-adamw-constant"),
    "plateau stepped too early": ((FitProgram, "epoch_end", steps_the_plateau_first), "mlp-adamw-plateau"),
    "metrics published too late": ((Evaluation, "end", publishes_after_the_event), "busy-callback"),
    "scale not updated": ((LossScaling, "update", forgets_to_update), "poisoned-unclipped-1"),
    "scale updated between two optimizers": ((LossScaling, "step", updates_after_each_step), "poisoned-joint"),
    "step not skipped": ((LossScaling, "step", steps_whatever_the_gradients_are), "poisoned-unclipped-1"),
    "gradients not unscaled": ((LossScaling, "unscale", never_unscales), "16-mixed-unclipped-1"),
    "evaluation in float32": ((EvalStep, "__init__", evaluates_in_float32), "bf16-mixed-unclipped-1"),
    "step by hand within autocast": ((step, "outside", never_leaves_the_context), "bf16-mixed-manual-products"),
    "skipped step not counted": ((TrainStep, "_after_step", a_skipped_step_does_not_count), "poisoned-unclipped-1"),
}
OF_A_BACKEND: dict[str, tuple[str, Patch, str]] = {
    "ignite never clears": ("ignite", (TorchPrimitives, "zero_grad", never_clears), "mlp-sgd-constant"),
    "ignite stays in eval mode": ("ignite", (ModuleModes, "restore", stays_in_eval_mode), "cnn-sgd-constant"),
    "ignite validates too often": ("ignite", (program.ValidationRule, "due", validates_once_more), "val-every-2"),
    "ignite steps twice": ("ignite", (TorchPrimitives, "step", steps_twice), "mlp-sgd-constant"),
    "ignite clips before it unscales": (
        "ignite",
        (ScaledPrimitives, "clip", clips_before_it_unscales),
        "16-mixed-norm-1",
    ),
    "ignite keeps an autocast cache": (
        "ignite",
        (torch_primitives, "forward_context", keeps_a_cache),
        "bf16-mixed-tied",
    ),
    "ignite trains 16-mixed in bf16": (
        "ignite",
        (torch_primitives, "forward_context", becomes_bf16),
        "16-mixed-unclipped-1",
    ),
    "lightning clips before it unscales": (
        "lightning",
        (MixedPrecision, "clip_gradients", clips_lightning_before_it_unscales),
        "16-mixed-norm-1",
    ),
    "lightning keeps an autocast cache": (
        "lightning",
        (pl.plugins.MixedPrecision, "autocast_context_manager", keeps_a_lightning_cache),
        "bf16-mixed-tied",
    ),
    "lightning trains 16-mixed in bf16": (
        "lightning",
        (pl.plugins.MixedPrecision, "autocast_context_manager", becomes_bf16_on_lightning),
        "16-mixed-unclipped-1",
    ),
    "lightning never clears": ("lightning", (LightningPrimitives, "zero_grad", never_clears), "mlp-sgd-constant"),
    "lightning steps twice": ("lightning", (LightningPrimitives, "step", steps_twice), "mlp-sgd-constant"),
}
CONTROLS = {
    **{
        f"{framework}: {name}": (framework, *fault)
        for framework in ("ignite", "lightning")
        for name, fault in SHARED.items()
    },
    **OF_A_BACKEND,
}


@pytest.mark.parametrize("name", CONTROLS)
def test_suite_catches(name: str) -> None:
    framework, patch, case = CONTROLS[name]
    suite = AdapterConformance()
    suite.framework = FaultyAdapter(framework, patch)  # type: ignore[misc]
    with pytest.raises(AssertionError, match="the runs differ"):
        suite.test_training_equals_the_bare_loop(case)


@pytest.mark.parametrize("framework", ["ignite", "lightning"])
def test_suite_passes_the_same_adapter_without_a_fault(framework: str) -> None:
    """The wrapper itself is not what is caught."""
    suite = AdapterConformance()
    suite.framework = FaultyAdapter(framework, (Mean, "add", lambda original, *args: original(*args)))  # type: ignore[misc]
    suite.test_training_equals_the_bare_loop("mlp-adamw-plateau")
