"""Evaluations with large metrics, and fits with many callbacks, loggers and worker processes, beside a loop by hand."""

from __future__ import annotations

import csv
from functools import cache, partial
from itertools import count, cycle, islice, product
from typing import TYPE_CHECKING, Any

import ignite.metrics
import torch
import torchmetrics
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from lightning.pytorch import Callback as PlainCallback
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger as PlainCSVLogger
from torch import nn
from torch.utils.data import DataLoader

from tests.bench.around import Activity
from tests.bench.around_files import FRAMEWORKS, plain_lightning, trainer
from tests.bench.work import LR, Ready, collated, digits, fully_connected
from unitrain import Callback, CSVLogger, TrainSpec, metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Metrics = dict[str, Any]

BATCHES, FEW, SIZE, WIDTH, CLASSES = 150, 40, 128, 64, 1000
EPOCHS, MANY, LOGGERS, EVERY, WORKERS = 5, 10, 5, 10, 2


@cache
def measured(classes: int, batches: int = BATCHES) -> Ready:
    """Return data for an evaluation."""
    generator = torch.Generator().manual_seed(0)
    return Ready(
        [
            (
                torch.randn(SIZE, WIDTH, generator=generator),
                torch.randint(0, classes, (SIZE,), generator=generator),
            )
            for _ in range(batches)
        ]
    )


def scores(classes: int) -> nn.Module:
    """Return a model: a score a class, or one of two."""
    torch.manual_seed(0)
    last = [nn.Flatten(0)] if classes == 2 else []
    return nn.Sequential(nn.Linear(WIDTH, 1 if last else classes), *last)


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of either."""
    if output.ndim == 1:
        return nn.functional.binary_cross_entropy_with_logits(output, target.float())
    return nn.functional.cross_entropy(output, target)


class Measuring(LightningModule):
    """Logs metrics as Lightning's documentation shows."""

    def __init__(self, model: nn.Module, metrics: Metrics) -> None:
        super().__init__()
        self.model, self.metrics = model, nn.ModuleDict(metrics)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate a batch."""
        inputs, target = batch
        output = self.model(inputs)
        self.log("loss", loss(output, target), on_epoch=True)
        for name, one in self.metrics.items():
            one.update(output, target)
            self.log(name, one, on_epoch=True)


def evaluating(
    folder: Path,
    name: str,
    make: Callable[[], Metrics],
    theirs: Callable[[], Metrics] | None,
    classes: int,
    data: Ready,
) -> Activity:
    """Evaluate a loss and metrics; by hand with torchmetrics' own collection, which shares what metrics share.

    Args:
        folder: For the trainers.
        name: Of the activity.
        make: Makes the metrics of torchmetrics.
        theirs: Makes Ignite's, if it has them.
        classes: How many there are.
        data: The batches.
    """

    def by_hand() -> dict[str, float]:
        model, total, seen = scores(classes).eval(), torch.zeros(()), 0
        metrics = torchmetrics.MetricCollection(make())
        with torch.no_grad():
            for inputs, target in data:
                output = model(inputs)
                total += loss(output, target) * len(target)
                seen += len(target)
                metrics.update(output, target)
        return {"loss": total.item() / seen, **{key: value.item() for key, value in metrics.compute().items()}}

    def unitrain_on(framework: str) -> dict[str, float]:
        spec = TrainSpec(model=scores(classes), loss=loss, metrics=make())
        found = trainer(framework, folder).validate(spec, data)
        return {key.removeprefix("val/"): value for key, value in found.items()}

    def by_lightning() -> dict[str, float]:
        found = plain_lightning(folder).validate(Measuring(scores(classes), make()), data, verbose=False)
        return dict(found[0])

    def by_ignite() -> dict[str, float]:
        assert theirs is not None
        evaluator = create_supervised_evaluator(scores(classes), {"loss": ignite.metrics.Loss(loss), **theirs()})
        return dict(evaluator.run(data).metrics)

    ways: dict[str, Any] = {f"unitrain on {one}": partial(unitrain_on, one) for one in FRAMEWORKS}
    ways["lightning"] = by_lightning
    if theirs is not None:
        ways["ignite"] = by_ignite
    return Activity(name, "torchmetrics by hand", by_hand, ways)


def ranking() -> Metrics:
    """Return metrics that keep all outputs."""
    return {"auroc": metric("auroc"), "ap": metric("average_precision")}


def ranking_by_ignite() -> Metrics:
    """Return Ignite's, which take probabilities."""

    def probable(given: Any) -> Any:
        return given[0].sigmoid(), given[1]

    kinds = {"auroc": ignite.metrics.ROC_AUC, "ap": ignite.metrics.AveragePrecision}
    return {name: kind(output_transform=probable) for name, kind in kinds.items()}


def accuracy() -> Metrics:
    """Return an accuracy of many classes."""
    return {"acc": metric("accuracy", num_classes=CLASSES, average="micro")}


def hundred() -> Metrics:
    """Return a hundred metrics of ten classes, of twelve kinds."""
    kinds = product(("accuracy", "precision", "recall", "f1"), ("micro", "macro", "weighted"))
    some = islice(cycle(kinds), 100)
    return {f"m{index}": metric(kind, num_classes=10, average=how) for index, (kind, how) in enumerate(some)}


# --- fits -----------------------------------------------------------------------------------------------------------------


class Counting(Callback):
    """Listens to each batch."""

    def __init__(self) -> None:
        self.count = 0

    def on_batch_end(self, run: Any) -> None:
        """Count it."""
        self.count += 1


class PlainCounting(PlainCallback):
    """The same for Lightning."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, *_: Any) -> None:
        """Count it."""
        self.count += 1


class Training(LightningModule):
    """Trains, and logs the loss if there are loggers."""

    def __init__(self, model: nn.Module, *, logs: bool) -> None:
        super().__init__()
        self.model, self.logs = model, logs

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss."""
        found = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        if self.logs:
            self.log("loss", found)
        return found

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=LR)


def small() -> nn.Module:
    """Return the model of W1."""
    torch.manual_seed(0)
    return fully_connected(64, 32, 10)


def reached(model: nn.Module) -> dict[str, float]:
    """Return a sum of the weights."""
    return {"weights": sum(one.detach().double().abs().sum().item() for one in model.parameters())}


def by_hand(data: Iterable[Any], after: Callable[[int, torch.Tensor], None]) -> dict[str, float]:
    """Train by hand, and call ``after`` with the number of each step and its loss."""
    model, steps = small(), count(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for inputs, target in data:
            optimizer.zero_grad()
            found = nn.functional.cross_entropy(model(inputs), target)
            found.backward()
            optimizer.step()
            after(next(steps), found.detach())
    return reached(model)


def unitrain_on(framework: str, folder: Path, data: Callable[[], Any], **options: Any) -> dict[str, float]:
    """Train with unitrain."""
    spec = TrainSpec(model=small(), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=LR))
    given = {name: make() for name, make in options.items()}
    trainer(framework, folder, max_epochs=EPOCHS, **given).fit(spec, data())
    return reached(spec.model)


def by_lightning(folder: Path, data: Callable[[], Any], *, logs: bool = False, **options: Any) -> dict[str, float]:
    """Train with a plain Trainer."""
    module = Training(small(), logs=logs)
    given = {name: make() for name, make in options.items()}
    plain_lightning(folder, max_epochs=EPOCHS, **given).fit(module, data())
    return reached(module.model)


def by_ignite(data: Callable[[], Any], handlers: int) -> dict[str, float]:
    """Train with a plain engine."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    engine = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    for _ in range(handlers):
        engine.add_event_handler(Events.ITERATION_COMPLETED, PlainCounting().on_train_batch_end)
    engine.run(data(), max_epochs=EPOCHS)
    return reached(model)


def calling(folder: Path) -> Activity:
    """Train with many callbacks."""
    data = collated(32)

    def base() -> dict[str, float]:
        listening = [PlainCounting() for _ in range(MANY)]
        return by_hand(data(), lambda *_: [one.on_train_batch_end() for one in listening] and None)

    own, plain = (lambda kind=kind: [kind() for _ in range(MANY)] for kind in (Counting, PlainCounting))
    ways: dict[str, Any] = {
        f"unitrain on {one}": partial(unitrain_on, one, folder, data, callbacks=own) for one in FRAMEWORKS
    }
    ways |= {
        "lightning": partial(by_lightning, folder, data, callbacks=plain),
        "ignite": partial(by_ignite, data, MANY),
    }
    return Activity(f"{MANY} callbacks at each batch", "a loop by hand", base, ways)


def logging(folder: Path) -> Activity:
    """Train with many CSV files, of which each gets a row every few steps."""
    data, number = collated(32), count()

    def base() -> dict[str, float]:
        place = folder / f"by hand {next(number)}"
        place.mkdir()
        files = [(place / f"{index}.csv").open("w", newline="") for index in range(LOGGERS)]
        writers = [csv.writer(one) for one in files]

        def write(step: int, found: torch.Tensor) -> None:
            if step % EVERY == 0:
                value = found.item()
                for writer, file in zip(writers, files, strict=True):
                    writer.writerow((step, value))
                    file.flush()

        found = by_hand(data(), write)
        for file in files:
            file.close()
        return found

    def made(kind: Any) -> Callable[[], list[Any]]:
        return lambda: [kind(str(folder / "logs"), name=f"{index}-{next(number)}") for index in range(LOGGERS)]

    every = {"log_every_n_steps": lambda: EVERY}
    ways: dict[str, Any] = {
        f"unitrain on {one}": partial(unitrain_on, one, folder, data, loggers=made(CSVLogger), **every)
        for one in FRAMEWORKS
    }
    ways["lightning"] = partial(by_lightning, folder, data, logs=True, logger=made(PlainCSVLogger), **every)
    return Activity(f"{LOGGERS} CSV files, a row each {EVERY} steps", "a loop by hand", base, ways)


def working(folder: Path) -> Activity:
    """Train on a DataLoader with worker processes."""

    def data() -> Any:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(digits(), 32, shuffle=True, generator=generator, num_workers=WORKERS, persistent_workers=True)

    def base() -> dict[str, float]:
        return by_hand(data(), lambda *_: None)

    ways: dict[str, Any] = {f"unitrain on {one}": partial(unitrain_on, one, folder, data) for one in FRAMEWORKS}
    ways |= {"lightning": partial(by_lightning, folder, data), "ignite": partial(by_ignite, data, 0)}
    return Activity(f"a DataLoader with {WORKERS} workers", "a loop by hand", base, ways)


def activities(folder: Path) -> dict[str, Callable[[], Activity]]:
    """Return what is evaluated and trained."""
    evaluations = {
        "evaluate AUROC and average precision": (ranking, ranking_by_ignite, 2, measured(2)),
        f"evaluate an accuracy of {CLASSES:,} classes": (
            accuracy,
            lambda: {"acc": ignite.metrics.Accuracy()},
            CLASSES,
            measured(CLASSES),
        ),
        "evaluate 100 metrics": (hundred, None, 10, measured(10, FEW)),
    }
    return {
        **{name: partial(evaluating, folder, name, *given) for name, given in evaluations.items()},
        f"{MANY} callbacks": partial(calling, folder),
        f"{LOGGERS} CSV files": partial(logging, folder),
        f"{WORKERS} workers": partial(working, folder),
    }
