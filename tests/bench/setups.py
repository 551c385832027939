"""How people train, for the gates: each setup of a run with what a step of it costs."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from tests.bench.counting import batches, spec, trainer
from tests.bench.work import Ready, fully_connected
from unitrain import CSVLogger, EarlyStopping, LRMonitor, ModelCheckpoint, metric
from unitrain.callbacks import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def always(**arguments: Any) -> Callable[[Path], dict[str, Any]]:
    """Return what gives the same arguments, whatever the folder."""
    return lambda folder: arguments


_NONE = always()


@dataclass(frozen=True)
class Setup:
    """A way to train.

    Attributes:
        calls: Python calls a step, measured: on Ignite, on Lightning. A gate allows a little more.
        options: Makes the trainer's arguments; gets a folder.
        fields: Makes the spec's.
        waits: Waits for the device a step.
        why: Why there are any.
        data: Makes the loader of ready batches.
        method: The trainer's, which runs it.
    """

    calls: tuple[int, int]
    options: Callable[[Path], dict[str, Any]] = _NONE
    fields: Callable[[Path], dict[str, Any]] = _NONE
    waits: float = 0
    why: str = ""
    data: Callable[[Ready], Iterable[Any]] = lambda ready: ready
    method: str = "fit"

    def run(self, framework: str, folder: Path, accelerator: str = "cpu") -> Callable[[int], Callable[[], object]]:
        """Return what prepares a fit of so many batches on a device."""
        number = itertools.count()

        def prepared(count: int) -> Callable[[], object]:
            place = folder / str(next(number))
            made = trainer(framework, accelerator=accelerator, **self.options(place))
            act = getattr(made, self.method)
            return partial(act, spec(**self.fields(place)), self.data(batches(count)))

        return prepared


def by_hand(run: Any, batch: Any) -> Any:
    """Train two optimizers by hand."""
    inputs, target = batch
    loss = torch.nn.functional.cross_entropy(run.model(inputs), target)
    run.backward(loss)
    for name in ("first", "last"):
        run.step(name)
    return loss


def two_optimizers(folder: Path) -> dict[str, Any]:
    """Return the fields of a spec that trains by hand."""
    model = fully_connected(64, 32, 10)
    optimizers = {"first": torch.optim.SGD(model[0].parameters(), lr=0.1)}
    optimizers["last"] = torch.optim.SGD(model[2].parameters(), lr=0.1)
    fields = {"model": model, "optimizer": optimizers, "training_step": by_hand, "automatic_optimization": False}
    return {**fields, "loss": None, "metrics": {}}


def keeping(folder: Path) -> dict[str, Any]:
    """Return a trainer's arguments with the callbacks that people use."""
    callbacks = [EarlyStopping("train/loss", mode="min"), LRMonitor(), ModelCheckpoint(folder / "kept")]
    return {"callbacks": callbacks, "default_root_dir": folder}


def tracking(folder: Path) -> dict[str, Any]:
    """Return a trainer's arguments with a tracker."""
    return {"loggers": [CSVLogger(folder)], "default_root_dir": folder}


def showing(folder: Path) -> dict[str, Any]:
    """Return a trainer's arguments with a bar on a terminal."""
    return {"callbacks": [ProgressBar(Console(file=io.StringIO(), force_terminal=True))]}


def listening(folder: Path) -> dict[str, Any]:
    """Return a trainer's arguments with a callback of Lightning's that listens to each batch."""
    import pytorch_lightning

    class Listening(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            """Listen."""

    return {"callbacks": [Listening()]}


def named(name: str, **options: Any) -> Callable[[Path], dict[str, Any]]:
    """Return what makes the fields of a spec with a metric of torchmetrics'."""
    return lambda folder: {"metrics": {name: metric(name, num_classes=10, **options)}}


_INF = "GradScaler reads whether a gradient is infinite: without it no step could be left out"
_OWN = "torchmetrics' own update reads from the device; only counts of the best class are put off to the epoch's end"
_ROW = "a row each 50 steps has the loss in it"

SETUPS = {
    "plain": Setup((143, 241)),
    "accuracy of torchmetrics": Setup((135, 233), fields=named("accuracy")),
    "top-2 accuracy of torchmetrics": Setup((169, 267), fields=named("accuracy", top_k=2), waits=2, why=_OWN),
    "callbacks": Setup((148, 246), keeping),
    "tracker": Setup((146, 244), tracking, waits=0.02, why=_ROW),
    "callbacks, tracker, accuracy": Setup(
        (144, 243), lambda folder: keeping(folder) | tracking(folder), named("accuracy"), 0.02, _ROW
    ),
    "bar, between two refreshes": Setup((147, 245), showing),
    "bf16-mixed": Setup((159, 275), always(precision="bf16-mixed")),
    "16-mixed": Setup((194, 303), always(precision="16-mixed"), waits=1, why=_INF),
    "bf16-true": Setup((171, 269), always(precision="bf16-true")),
    "accumulating 2": Setup((121, 199), always(accumulate_grad_batches=2)),
    "clipping norms": Setup((217, 352), always(gradient_clip_val=1.0)),
    "clipping values": Setup((179, 305), always(gradient_clip_val=1.0, gradient_clip_algorithm="value")),
    "two optimizers by hand": Setup((199, 338), fields=two_optimizers),
    "data without a length": Setup((166, 265), data=lambda ready: (batch for batch in ready)),
    "evaluation": Setup((69, 67), method="validate"),
    "evaluation, accuracy of torchmetrics": Setup((61, 60), fields=named("accuracy"), method="validate"),
}
"""On both backends. Where nothing is said of waits, no step waits."""

LISTENING = Setup((0, 657), listening)
"""On Lightning only: the plain path, and what Lightning itself spends on calling one callback."""
