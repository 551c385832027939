"""What a step costs as a run grows: in epochs, steps, history, checkpoints, callbacks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.bench.counting import Calls, accuracy, batches, spec, trainer
from unitrain import Callback, ModelCheckpoint
from unitrain.run.hub import Event

if TYPE_CHECKING:
    from collections.abc import Callable

FRAMEWORKS = ("ignite", "lightning")
TIMES = (1, 10, 100)


class Quiet(Callback):
    """Listens to the end of each batch, and does nothing."""

    def on_batch_end(self, run: Any) -> None:
        """Do nothing."""


def an_epoch(framework: str, folder: Path, epochs: int, steps: int, *, kept: int = 0) -> int:
    """Return the Python calls of the last epoch of a run, from its first batch to the next's or to the end.

    Args:
        framework: The backend.
        folder: Where checkpoints go.
        epochs: How many epochs there are.
        steps: How many steps an epoch has.
        kept: How many checkpoints are kept.
    """
    counts, marks = Calls(), []
    keep = [ModelCheckpoint(folder, save_top_k=kept)] if kept else []
    made = trainer(framework, max_epochs=epochs, callbacks=keep, default_root_dir=folder)
    made.on(Event.EPOCH_START, lambda run: marks.append(counts.count))
    made.on(Event.FIT_END, lambda run: marks.append(counts.count))
    given, data = spec(), batches(steps)
    with counts.counted():
        made.fit(given, data)
    return marks[-1] - marks[-2]


def of_callbacks(framework: str, number: int) -> float:
    """Return the Python calls a step with so many callbacks that listen to it."""
    return _between(framework, callbacks=[Quiet() for _ in range(number)])


def of_metrics(framework: str, number: int) -> float:
    """Return the Python calls a step with so many metrics."""
    return _between(framework, metrics={f"m{index}": accuracy for index in range(number)})


def _between(framework: str, callbacks: Any = (), metrics: Any = None, few: int = 10, many: int = 30) -> float:
    found = []
    for steps in (few, many):
        counts, made = Calls(), trainer(framework, callbacks=list(callbacks))
        given, data = spec(metrics=metrics or {}), batches(steps)
        with counts.counted():
            made.fit(given, data)
        found.append(counts.count)
    return (found[1] - found[0]) / (many - few)


@dataclass(frozen=True)
class Axis:
    """A way for a run to grow.

    Attributes:
        what: What there is 1, 10 or 100 of.
        cost: Returns Python calls a step, or an epoch, of a backend where there are so many.
        each: What each one more may add to it, on top of what the first costs.
    """

    what: str
    cost: Callable[[str, int, Path], float]
    each: float = 0


def _steps(framework: str, number: int, folder: Path) -> float:
    return (an_epoch(framework, folder, 1, number + 20) - an_epoch(framework, folder, 1, number + 10)) / 10


AXES = (
    Axis("epochs (an epoch of 5 steps)", lambda framework, number, folder: an_epoch(framework, folder, number + 1, 5)),
    Axis("steps of an epoch", _steps),
    Axis(
        "checkpoints kept (an epoch of 5 steps)",
        lambda framework, number, folder: an_epoch(framework, folder, number + 2, 5, kept=number),
    ),
    Axis("callbacks that listen to batches", lambda framework, number, _: of_callbacks(framework, number)),
    Axis("metrics", lambda framework, number, _: of_metrics(framework, number)),
)


def measured(axis: Axis, framework: str) -> list[float]:
    """Return what there is to pay at 1, 10 and 100."""
    found = []
    for number in (1, *TIMES):  # first use imports and fills caches
        with TemporaryDirectory() as folder:
            found.append(axis.cost(framework, number, Path(folder)))
    return found[1:]


def growth_table() -> str:
    """Return Python calls at 1, 10 and 100 as a table of Markdown."""
    lines = ["| Python calls a step, with more | on | at 1 | at 10 | at 100 | each |", "|---|---|---|---|---|---|"]
    for axis in AXES:
        for framework in FRAMEWORKS:
            found = measured(axis, framework)
            each = (found[-1] - found[0]) / (TIMES[-1] - TIMES[0])
            shown = " | ".join(f"{value:,.0f}" for value in found)
            lines.append(f"| {axis.what} | {framework} | {shown} | {each:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(growth_table())  # noqa: T201 - a script
