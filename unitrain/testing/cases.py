"""The cases of the conformance suite, as tables."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unitrain.callbacks import Callback
from unitrain.data.sources import DataSpec
from unitrain.metrics.metric import metric
from unitrain.run.hub import Event
from unitrain.spec import LRSchedule, TrainSpec
from unitrain.testing.models import BATCH, CLASSES, MODELS, SAMPLES, batches, loader, tensors
from unitrain.testing.trace import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unitrain.run.context import RunContext
    from unitrain.trainer import UnifiedTrainer


def _two_groups(parameters: list[nn.Parameter]) -> Optimizer:
    return Adam([{"params": parameters[:1], "lr": 1e-2}, {"params": parameters[1:], "lr": 3e-3, "weight_decay": 0.1}])


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": partial(SGD, lr=0.05, momentum=0.9),
    "adamw": partial(AdamW, lr=1e-2),
    "groups": _two_groups,
    "lbfgs": partial(torch.optim.LBFGS, lr=0.1, max_iter=3, history_size=4),
}

SCHEDULES: dict[str, Any] = {
    "constant": None,
    "step": LRSchedule(partial(CosineAnnealingLR, T_max=9), interval="step", frequency=2),
    "epoch": partial(StepLR, step_size=1, gamma=0.5),
    "plateau": LRSchedule(partial(ReduceLROnPlateau, patience=0, factor=0.5, threshold=0.5), monitor="val/loss"),
}


def _accuracy_error(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) != target).float().mean()


def spec(model: str = "mlp", optimizer: str = "adamw", schedule: str = "constant", **changes: Any) -> TrainSpec:
    """Return a classification spec from the tables, with ``changes`` to its fields."""
    fields: dict[str, Any] = {
        "model": MODELS[model](),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": OPTIMIZERS[optimizer],
        "lr_scheduler": SCHEDULES[schedule],
        "metrics": {"acc": metric("accuracy", num_classes=CLASSES), "error": _accuracy_error},
    }
    return TrainSpec(**{**fields, **changes})


def matrix() -> list[Case]:
    """Return every model with every optimizer and every schedule, shuffled and validated."""
    return [
        Case(
            name=f"{model}-{optimizer}-{schedule}",
            spec=partial(spec, model, optimizer, schedule),
            train=loader,
            val=partial(loader, shuffle=False, samples=10),
        )
        for model in MODELS
        for optimizer in OPTIMIZERS
        for schedule in SCHEDULES
    ]


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """A dataset whose items draw from all global generators, as augmentations do."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, classes = tensors()
        noise = torch.rand(36) + random.random() + float(np.random.rand())  # noqa: NPY002, S311 - the global ones
        return inputs[index] + 0.1 * noise, classes[index]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Random samples without a length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(SAMPLES):
            yield torch.randn(36), torch.randint(0, CLASSES, ())


class Unsized:
    """An iterable of batches without a length, a different number in each epoch."""

    def __init__(self) -> None:
        self.epochs = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.epochs += 1
        yield from batches()[: 4 + self.epochs]


def _noisy(workers: int = 0) -> DataLoader[Any]:
    return DataLoader(Noisy(), batch_size=BATCH, shuffle=True, num_workers=workers)


def _stream(workers: int = 0) -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=BATCH, num_workers=workers)


def _shared_generator() -> DataSpec:
    """Return two loaders that draw from one generator."""
    generator = torch.Generator().manual_seed(3)
    data = loader().dataset
    train = DataLoader(data, batch_size=BATCH, shuffle=True, generator=generator)
    return DataSpec(train=train, val=DataLoader(data, batch_size=BATCH, shuffle=True, generator=generator))


def _dicts() -> list[dict[str, Tensor]]:
    return [{"input": inputs, "target": target} for inputs, target in batches()]


def _nested() -> list[dict[str, Any]]:
    return [{"views": (inputs, [inputs.flip(1)]), "labels": {"class": target}} for inputs, target in batches()]


DATA: dict[str, Callable[[], Any]] = {
    "ordered": partial(loader, shuffle=False),
    "workers": partial(loader, workers=2),
    "list": batches,
    "dicts": _dicts,
    "noisy": _noisy,
    "noisy-workers": partial(_noisy, 2),
    "stream": _stream,
    "stream-workers": partial(_stream, 2),
    "unsized": Unsized,
    "shared-generator": _shared_generator,
}


def data_cases() -> list[Case]:
    """Return one case for each kind of data, validated on the same kind (a fresh one)."""
    return [
        Case(name=name, spec=spec, train=make, val=None if name == "shared-generator" else make)
        for name, make in DATA.items()
    ]


def _views_step(model: nn.Module, batch: Any) -> dict[str, Any]:
    output = model(batch["views"][0]) + model(batch["views"][1][0])
    loss = nn.functional.cross_entropy(output, batch["labels"]["class"])
    return {"loss": loss, "scale": output.abs().mean(), "output": output, "target": batch["labels"]["class"]}


def _views_validation(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    return model(batch["views"][0]), batch["labels"]["class"]


def _drawing_validation(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Draw from the global generators, as a VAE does."""
    noise = torch.randn_like(batch[0]) + random.random() + float(np.random.rand())  # noqa: NPY002, S311
    return {"noisy": model(batch[0] + noise).mean(), "loss": nn.functional.cross_entropy(model(batch[0]), batch[1])}


class Pair(nn.Module):
    """A generator and a discriminator of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.gen = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 36))
        self.disc = nn.Sequential(nn.Linear(36, 12), nn.Dropout(0.1), nn.ReLU(), nn.Linear(12, 1))


def _adversarial_step(run: RunContext, batch: Any) -> Tensor:
    model: Any = run.model
    judge = nn.functional.binary_cross_entropy_with_logits
    real = batch[0]
    one, zero = (torch.full((len(real), 1), value, device=real.device) for value in (1.0, 0.0))
    fake = model.gen(torch.randn(len(real), 4, device=real.device))
    g_loss = judge(model.disc(fake), one)
    run.backward(g_loss)
    run.step("gen")
    run.optimizers["disc"].zero_grad()
    d_loss = judge(model.disc(real), one) + judge(model.disc(fake.detach()), zero)
    run.backward(d_loss)
    if run.state.batch % 2 == 0:
        run.step("disc")
    run.log("d_loss", d_loss)
    return g_loss


def adversarial() -> TrainSpec:
    """Return a spec with two optimizers, stepped by hand and not equally often."""
    return TrainSpec(
        model=Pair(),
        optimizer={"gen": partial(Adam, lr=1e-3, betas=(0.5, 0.9)), "disc": partial(SGD, lr=0.01, momentum=0.5)},
        lr_scheduler={"disc": LRSchedule(partial(StepLR, step_size=1, gamma=0.9), interval="step", frequency=2)},
        automatic_optimization=False,
        training_step=_adversarial_step,
    )


def _manual_single(run: RunContext, batch: Any) -> dict[str, Tensor]:
    loss = nn.functional.cross_entropy(run.model(batch[0]), batch[1])
    run.backward(loss)
    if run.state.batch % 2:
        run.step()
    return {"loss": loss, "twice": loss * 2}


def step_cases() -> list[Case]:
    """Return the ways to write a step."""
    custom = partial(spec, training_step=_views_step, validation_step=_views_validation)
    drawing = partial(spec, validation_step=_drawing_validation, metrics=None)
    manual = partial(spec, automatic_optimization=False, training_step=_manual_single, metrics=None)
    return [
        Case(name="custom-steps", spec=custom, train=_nested, val=_nested),
        Case(name="drawing-validation", spec=drawing, train=_noisy, val=_noisy),
        Case(name="adversarial", spec=adversarial, train=loader),
        Case(name="adversarial-clipped", spec=adversarial, train=loader, options={"gradient_clip_val": 0.1}),
        Case(name="manual", spec=manual, train=loader, val=loader),
    ]


OPTIONS: dict[str, dict[str, Any]] = {
    "accumulate-3": {"accumulate_grad_batches": 3},
    "accumulate-4-midway-validation": {"accumulate_grad_batches": 4, "val_check_interval": 2},
    "clip-norm": {"gradient_clip_val": 0.3},
    "clip-value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value", "accumulate_grad_batches": 2},
    "limit-count": {"limit_train_batches": 4, "limit_val_batches": 1},
    "limit-fraction": {"limit_train_batches": 0.5, "limit_val_batches": 0.7},
    "no-validation": {"limit_val_batches": 0},
    "val-every-2": {"val_check_interval": 2},
    "val-every-4": {"val_check_interval": 4},
    "val-every-half": {"val_check_interval": 0.5},
    "val-over-epochs": {"val_check_interval": 4, "check_val_every_n_epoch": None},
    "val-second-epoch": {"check_val_every_n_epoch": 2},
    "max-steps": {"max_steps": 8, "max_epochs": None},
    "max-steps-at-end": {"max_steps": 12},
    "max-steps-accumulated": {"max_steps": 3, "accumulate_grad_batches": 2},
    "fast-dev-run": {"fast_dev_run": True},
    "fast-dev-run-3": {"fast_dev_run": 3},
    "overfit-2": {"overfit_batches": 2},
    "overfit-fraction": {"overfit_batches": 0.5},
    "no-seed": {"seed": None},
}


def option_cases() -> list[Case]:
    """Return one case for each option, on data that draws random numbers."""
    scheduled = partial(spec, "cnn", "sgd", "epoch")
    return [
        Case(name=name, spec=scheduled, train=_noisy, val=_noisy, options=options) for name, options in OPTIONS.items()
    ] + [
        Case(name=f"stream-{name}", spec=scheduled, train=_stream, val=_stream, options=OPTIONS[name])
        for name in ("accumulate-3", "limit-count", "val-every-2", "max-steps", "overfit-2")
    ]


def _stops(event: Event, **options: Any) -> tuple[Callable[[UnifiedTrainer], object], dict[str, Any]]:
    return lambda trainer: trainer.on(event(once=2), lambda run: run.stop()), options


STOPS: dict[str, tuple[Callable[[UnifiedTrainer], object], dict[str, Any]]] = {
    **{f"stop-{event}": _stops(event) for event in (Event.EPOCH_START, Event.BATCH_START, Event.BATCH_END)},
    **{
        f"stop-{event}": _stops(event)
        for event in (Event.OPTIMIZER_STEP, Event.VAL_START, Event.VAL_END, Event.EPOCH_END)
    },
    "stop-midway-validation": _stops(Event.VAL_END, val_check_interval=2),
    "stop-min-epochs": _stops(Event.BATCH_END, min_epochs=2),
    "stop-min-steps": _stops(Event.BATCH_END, min_steps=9),
    "stop-no-validation-epoch": _stops(Event.BATCH_END, check_val_every_n_epoch=2),
}


def _stop_at_once(trainer: UnifiedTrainer) -> None:
    trainer.on(Event.FIT_START, lambda run: run.stop())


def stop_cases() -> list[Case]:
    """Return the ways to end early, and what still happens then."""
    validated = partial(loader, samples=6)
    cases = [
        Case(name=name, spec=partial(spec, schedule="epoch"), train=loader, val=validated, options=options, act=act)
        for name, (act, options) in STOPS.items()
    ]
    at_once = Case(name="stop-fit_start", spec=spec, train=loader, val=validated, act=_stop_at_once)
    return [
        *cases,
        at_once,
        Case(name="stop-stream", spec=spec, train=_stream, val=_stream, act=STOPS["stop-batch_end"][0]),
    ]


class _Busy(Callback):
    """Logs, draws and changes the run wherever it can."""

    def on_epoch_start(self, run: RunContext) -> None:
        run.log("started", run.state.epoch)

    def on_batch_end(self, run: RunContext) -> None:
        run.log("batches", float(run.state.batch))

    def on_val_batch_end(self, run: RunContext) -> None:
        run.log("own/draw", float(torch.rand(())))

    def on_val_end(self, run: RunContext) -> None:
        run.log("ended", float(random.random()))  # noqa: S311 - the global generator is meant

    def on_backward_end(self, run: RunContext) -> None:
        for parameter in run.model.parameters():
            if parameter.grad is not None:
                parameter.grad += 1e-3 * torch.randn_like(parameter.grad)

    def on_epoch_end(self, run: RunContext) -> None:
        run.log("total", float(run.state.batch))


def _filters(trainer: UnifiedTrainer) -> None:
    trainer.on(Event.BATCH_END(every=3) | Event.EPOCH_END(once=[1, 3]), lambda run: run.log("seen", 1.0))
    trainer.on(Event.BATCH_START(after=2, before=9), lambda: torch.rand(()))
    trainer.on(Event.OPTIMIZER_STEP(event_filter=lambda run, count: count == run.state.step), lambda: torch.rand(()))


def handler_cases() -> list[Case]:
    """Return handlers that log, draw and change gradients."""
    busy = partial(spec, callbacks=[_Busy()])
    plateau = LRSchedule(partial(ReduceLROnPlateau, patience=0), monitor="train/total", frequency=2)
    logged = partial(spec, callbacks=[_Busy()], lr_scheduler=plateau)
    return [
        Case(name="busy-callback", spec=busy, train=loader, val=loader),
        Case(name="filters", spec=spec, train=_noisy, val=loader, act=_filters),
        Case(name="plateau-on-a-logged-value", spec=logged, train=loader),
        Case(name="frozen-submodule", spec=_frozen_spec, train=loader, val=loader),
        Case(name="model-in-eval-mode", spec=_evaluating_spec, train=loader, val=loader),
    ]


def _frozen_spec() -> TrainSpec:
    made = spec("cnn")
    made.model[2].eval()  # type: ignore[index]
    return made


def _evaluating_spec() -> TrainSpec:
    made = spec()
    made.model.eval()
    return made
