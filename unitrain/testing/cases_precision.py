"""The cases of the conformance suite for precision, and of fp16 steps that are skipped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from unitrain.run.hub import Event
from unitrain.spec import LRSchedule, TrainSpec
from unitrain.testing.cases import DATA, OPTIMIZERS, Pair, adversarial, spec, step_cases
from unitrain.testing.models import loader
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.run.context import RunContext
    from unitrain.trainer import UnifiedTrainer

PRECISIONS = ("32-true", "64-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed")
CLIPS: dict[str, dict[str, Any]] = {
    "unclipped": {},
    "norm": {"gradient_clip_val": 0.3},
    "value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
}
_ADAM = partial(Adam, lr=1e-3, eps=1e-4)
"""Adam's default eps is 0 in float16."""

_STEP = LRSchedule(partial(StepLR, step_size=2, gamma=0.8), interval="step")


def precision_cases() -> list[Case]:
    """Return every precision with every clipping, accumulation, model and way to write a step."""
    return [*_clipping_cases(), *_model_cases(), *_step_cases(), *_closure_cases()]


def _clipping_cases() -> list[Case]:
    return [
        Case(
            name=f"{precision}-{clip}-{accumulate}",
            spec=partial(spec, "mlp", "sgd", lr_scheduler=_STEP),
            train=loader,
            val=partial(loader, shuffle=False, samples=10),
            options={"precision": precision, "accumulate_grad_batches": accumulate, **options},
        )
        for precision in PRECISIONS
        for clip, options in CLIPS.items()
        for accumulate in (1, 3)
    ]


def _model_cases() -> list[Case]:
    return [
        Case(
            name=f"{precision}-{model}",
            spec=partial(spec, model, "sgd", "plateau"),
            train=loader,
            val=loader,
            options={"precision": precision, "gradient_clip_val": 0.3},
        )
        for precision in PRECISIONS[1:]
        for model in ("cnn", "tied", "transformer")
    ]


def _step_cases() -> list[Case]:
    written = {case.name: case for case in step_cases()}
    made = [written[name] for name in ("custom-steps", "drawing-validation", "manual")]
    made += [Case(name=name, spec=spec, train=DATA[name], val=DATA[name]) for name in ("dicts", "stream")]
    made = [replace(case, spec=partial(_by_sgd, case.spec)) for case in made]
    made.append(replace(written["adversarial-clipped"], spec=_adversarial))
    made.append(replace(written["manual"], name="manual-products", spec=partial(_products, written["manual"].spec)))
    return [
        Case(
            name=f"{precision}-{case.name}",
            spec=case.spec,
            train=case.train,
            val=case.val,
            options={**case.options, "precision": precision},
        )
        for precision in PRECISIONS[1:]
        for case in made
    ]


def _by_sgd(make: Callable[[], TrainSpec]) -> TrainSpec:
    return replace(make(), optimizer=OPTIMIZERS["sgd"])


class _Products(SGD):
    """An optimizer that multiplies matrices in its step; under autocast they would be cast."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for one in group["params"]:
                if one.grad is not None and one.ndim > 1:
                    one.grad += one.grad @ one.grad.T @ one.grad
        return super().step(closure)


def _products(make: Callable[[], TrainSpec]) -> TrainSpec:
    return replace(make(), optimizer=partial(_Products, lr=0.05))


def _adversarial() -> TrainSpec:
    made = adversarial()
    assert isinstance(made.optimizer, dict)
    return replace(made, optimizer={**made.optimizer, "gen": _ADAM})


def _closure_cases() -> list[Case]:
    """Return an optimizer that evaluates the loss itself; 16-mixed refuses it."""
    return [
        Case(
            name=f"{precision}-lbfgs",
            spec=partial(spec, "mlp", "lbfgs"),
            train=loader,
            val=loader,
            options={"precision": precision, "gradient_clip_val": 0.3},
        )
        for precision in ("64-true", "bf16-true", "bf16-mixed")  # in float16 its curvature overflows: all is nan
    ]


def _poison(run: RunContext) -> None:
    """Make one gradient infinite."""
    parameter = next(one for one in run.model.parameters() if one.grad is not None)
    assert parameter.grad is not None
    parameter.grad.view(-1)[0] = torch.inf


def _grow(run: RunContext) -> None:
    """Let the scale grow after every other step; alone it would take 2000."""
    assert run.scaler is not None
    run.scaler.set_growth_interval(2)


def _poisoned(*at: int) -> Callable[[UnifiedTrainer], None]:
    def act(trainer: UnifiedTrainer) -> None:
        trainer.on(Event.FIT_START, _grow)
        trainer.on(Event.BACKWARD_END(once=list(at)), _poison)

    return act


def _exploding_step(model: nn.Module, batch: Any) -> Tensor:
    """Return a loss that overflows once it is scaled, on some batches."""
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    return loss * 1e35 if int(batch[1][0]) == 1 else loss


def _joint_step(run: RunContext, batch: Any) -> Tensor:
    """Differentiate both losses before either step, then step one optimizer once more than the other."""
    model: Any = run.model
    judge = nn.functional.binary_cross_entropy_with_logits
    real = batch[0]
    one, zero = (torch.full((len(real), 1), value, device=real.device) for value in (1.0, 0.0))
    fake = model.gen(torch.randn(len(real), 4, device=real.device))
    g_loss = judge(model.disc(fake), one)
    run.backward(g_loss)
    run.optimizers["disc"].zero_grad()
    run.backward(judge(model.disc(real), one) + judge(model.disc(fake.detach()), zero))
    run.step("gen")
    run.step("disc")
    run.step("disc")  # without a gradient
    run.backward(judge(model.disc(real), one))
    run.step("disc")
    return g_loss


def _joint() -> TrainSpec:
    return TrainSpec(
        model=Pair(),
        optimizer={"gen": _ADAM, "disc": partial(SGD, lr=0.01, momentum=0.5)},
        automatic_optimization=False,
        training_step=_joint_step,
    )


def poisoned_cases() -> list[Case]:
    """Return fp16 runs in which steps are skipped, so that the scale falls, and grows again."""
    scheduled = partial(spec, "mlp", lr_scheduler=_STEP)
    exploding = partial(scheduled, training_step=_exploding_step, metrics=None)
    cases = [
        Case(
            name=f"poisoned-{clip}-{accumulate}",
            spec=scheduled,
            train=loader,
            val=loader,
            options={"precision": "16-mixed", "accumulate_grad_batches": accumulate, **options},
            act=_poisoned(1, 5, 6, 14),
        )
        for clip, options in CLIPS.items()
        for accumulate in (1, 3)
    ]
    by_hand = {"adversarial": adversarial, "joint": _joint}
    cases += [
        Case(
            name=f"poisoned-{name}",
            spec=make,
            train=loader,
            options={"precision": "16-mixed", "gradient_clip_val": 0.1},
            act=_poisoned(1, 6, 11, 20),
        )
        for name, make in by_hand.items()
    ]
    options = {"precision": "16-mixed", "gradient_clip_val": 0.1}
    return [*cases, Case(name="exploding-loss", spec=exploding, train=loader, val=loader, options=options)]
