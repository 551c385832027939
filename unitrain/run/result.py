"""The result of a fit."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Never

from unitrain.compat.other_names import RESULT
from unitrain.errors import UnitrainError, install_hint, no_attribute
from unitrain.reports.run.facts import facts_of
from unitrain.utilities.columns import WIDTH, in_columns
from unitrain.utilities.files import save_figure
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from unitrain.utilities.profiling import Profile


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The outcome of ``UnifiedTrainer.fit``. It can be pickled and copied; ``native`` stays behind.

    Attributes:
        metrics: The last value of each metric, by full name.
        history: One dict per epoch, with ``epoch``, ``step`` and the values measured in that epoch.
        epoch: The last epoch that ran, from 0.
        step: Number of optimizer steps.
        stopped_by: ``"max_epochs"``, ``"max_steps"``, ``"max_time"``, ``"early_stopping"``, ``"pruned"``, ``"nan"``,
            ``"user"`` or ``"signal"``.
        framework: The backend whose engine ran the steps.
        native: That engine; None in a copy or a pickled result, because an engine belongs to its process.
        best_checkpoint: The best checkpoint, if any was kept.
        last_checkpoint: The newest checkpoint, if any was kept.
        tensors: The last matrices and curves, by full name, such as ``"val/confusion"``.
        profile: The time profile, with ``profiler="simple"``.

    Example:
        >>> result = UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False).fit(spec, batches)
        >>> result.step, result.stopped_by, len(result.history)
        (6, 'max_epochs', 2)
    """

    metrics: dict[str, float]
    history: list[dict[str, float]]
    epoch: int
    step: int
    stopped_by: str
    framework: str
    native: Any = field(repr=False)
    best_checkpoint: Path | None = None
    last_checkpoint: Path | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)
    profile: Profile | None = field(default=None, repr=False)

    if not TYPE_CHECKING:  # for a type checker, only what is defined exists

        def __getattr__(self, name: str) -> Never:
            """Refuse an unknown attribute, with the one that was meant."""
            raise no_attribute(self, name, "the result of a fit", RESULT)

    def __str__(self) -> str:
        """The result as a small table: each metric in the first and in the last epoch that measured it."""
        epochs = f"{len(self.history)} epoch{'s' * (len(self.history) != 1)}"
        lines = [f"{epochs}, {self.step} steps on {self.framework}, stopped by {self.stopped_by}"]
        rows = [(name, _first(self.history, name), f"{value:.6g}") for name, value in self.metrics.items()]
        lines += in_columns([("metric", "first", "last"), *rows]) if rows else []
        shapes = [f"{name} {tuple(value.shape)}" for name, value in self.tensors.items()]
        lines += textwrap.wrap("also in .tensors: " + ", ".join(shapes), WIDTH) if shapes else []
        files = {"best checkpoint": self.best_checkpoint, "last checkpoint": self.last_checkpoint}
        lines += in_columns([(name, str(path)) for name, path in files.items() if path is not None])
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's
        printer.text(str(self))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the engine behind, and of what was run all but the texts."""
        facts = facts_of(self)
        kept = self.__dict__ if facts is None else {**self.__dict__, "_facts": facts.plain()}
        return {**kept, "native": None}

    def report(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a report of the run: one HTML file for a browser, which loads nothing and needs no network.

        It shows curves, learning rates, the time of each step, checkpoints, the options and the spec, the releases, the
        hardware, the seed and the git commit. Warnings are in reports of ``unitrain fit`` only. The folder of the
        process when the report is written tells the commit.

        Args:
            path: The file.
            overwrite: Whether an existing file may be replaced.

        Raises:
            ConfigError: If the file exists and must not be replaced, or cannot be written.

        Example:
            >>> result = UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False).fit(spec, batches)
            >>> result.report("report.html")
        """
        from unitrain.reports.run.of_result import write_report  # noqa: PLC0415 - only for a report

        write_report(self, path, overwrite=overwrite)

    def _repr_html_(self) -> str:
        """For notebooks: the metrics in the first and the last epoch, and their curves."""
        from unitrain.reports.run.snippet import snippet  # noqa: PLC0415 - only in a notebook

        return snippet(self)

    def plot(self, path: str | Path) -> None:
        """Plot the curves of ``history``; the suffix of ``path`` sets the format.

        Raises:
            UnitrainError: If matplotlib is not installed, or the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise UnitrainError("FitResult.plot needs matplotlib.", hint=install_hint("plot")) from error
        names = sorted({name.rpartition("/")[2] for row in self.history for name in row} - {"epoch", "step"})
        figure = Figure(figsize=(5 * max(len(names), 1), 4), layout="constrained")
        for axes, name in zip(figure.subplots(1, max(len(names), 1), squeeze=False)[0], names, strict=False):
            for full in sorted({key for row in self.history for key in row if key.rpartition("/")[2] == name}):
                points = [(row["epoch"], row[full]) for row in self.history if full in row]
                axes.plot(*zip(*points, strict=True), marker=".", label=full)
            axes.set(xlabel="epoch", title=name)
            axes.legend()
        save_figure(figure, path, UnitrainError)


def _first(history: list[dict[str, float]], name: str) -> str:
    return next((f"{row[name]:.6g}" for row in history if name in row), "")


def show_metrics(title: str, metrics: Mapping[str, float]) -> None:
    """Print metrics as a table."""
    with preserved_rng():  # rich draws a number when it is imported
        from rich.console import Console  # noqa: PLC0415 - only where a table is shown
        from rich.table import Table  # noqa: PLC0415

    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        table.add_row(name, f"{value:.6g}")
    Console().print(table)
