"""One progress bar on every backend; plain lines where there is no terminal, one output in a notebook."""

from __future__ import annotations

import time
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.reports.live import LiveOutput, in_notebook
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unitrain.run.context import RunContext

_REFRESH_SECONDS = 0.1
_EPOCHS_SHOWN = 8
"""How many epochs a notebook shows below the bar."""


@named_arguments(ConfigError, callback_arguments_for)
class ProgressBar(Callback):
    """Shows where training is: one bar per epoch on a terminal, one line per epoch elsewhere, on stderr.

    In a notebook it is one bar for the whole fit, with the values of the last epochs, in one output that changes.

    The loss is read from the device at most ten times per second, to avoid a synchronization in each step.

    Args:
        console: A ``rich.console.Console`` to write to; by default one on stderr.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[ProgressBar()])
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._next_refresh = 0.0
        self._started = 0.0
        self._first = 0
        self._notebook: _NotebookBar | None = None

    @cached_property
    def _screen(self) -> Any:
        with preserved_rng():  # rich draws a number when it is imported
            from rich.console import Console  # noqa: PLC0415 - only where a bar is shown

        return Console(stderr=True) if self._console is None else self._console

    @cached_property
    def _has_terminal(self) -> bool:
        return bool(self._screen.is_terminal)  # rich reads the environment each time

    def __getstate__(self) -> dict[str, Any]:
        """Drop the console, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name not in ("_screen", "_has_terminal")} | {
            "_bar": None,
            "_notebook": None,
        }

    def on_fit_start(self, run: RunContext) -> None:
        """Start the bar of a resumed epoch; it has no EPOCH_START of its own."""
        self._notebook = _NotebookBar() if self._console is None and in_notebook() else None
        if run.state.batch:
            self.on_epoch_start(run)

    def on_epoch_start(self, run: RunContext) -> None:
        """Start the epoch's bar."""
        self.close()
        self._started = time.monotonic()
        self._first = run.state.batch - (run.state.batch % run.epoch_length if run.epoch_length else 0)
        if self._notebook is not None:
            self._notebook.show(run, 0)
        elif self._has_terminal:
            self._start_bar(run)

    def _start_bar(self, run: RunContext) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[loss]}"), console=self._screen, transient=True)
        self._task = self._bar.add_task(f"epoch {run.state.epoch}", total=run.epoch_length, loss="")
        self._bar.start()

    def on_batch_end(self, run: RunContext) -> None:
        """Move the bar, if it is time."""
        if (self._bar is None and self._notebook is None) or time.monotonic() < self._next_refresh:
            return
        self._next_refresh = time.monotonic() + _REFRESH_SECONDS
        self._move(run, "" if run.state.loss is None else f"train/loss {float(run.state.loss):.4g}")

    def on_val_start(self, run: RunContext) -> None:
        """Show that validation is running."""
        self._move(run, "validating")

    def _move(self, run: RunContext, told: str) -> None:
        batches = run.state.batch - self._first
        if self._bar is not None:
            self._bar.update(self._task, completed=batches, loss=told)
        elif self._notebook is not None:
            self._notebook.show(run, batches, told)

    def on_epoch_end(self, run: RunContext) -> None:
        """Leave one line of the epoch."""
        self.close()
        seconds = time.monotonic() - self._started
        values = "  ".join(f"{name} {value:.4g}" for name, value in sorted(run.hub.epoch_metrics.items()))
        line = f"epoch {run.state.epoch}  step {run.state.step}  {values}  {seconds:.1f}s"
        if self._notebook is not None:
            self._notebook.end_epoch(run, line)
        elif self._console is not None or self._has_terminal:
            self._screen.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._screen.file)  # as rich would, but rich takes a tenth of an epoch of five batches

    def on_fit_end(self, run: RunContext) -> None:
        """Show in a notebook how the fit ended."""
        if self._notebook is not None:
            self._notebook.end(run)

    def close(self) -> None:
        """Remove the bar, also after an error so that the error is readable."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _NotebookBar:
    """The bar of one fit in the output of a cell."""

    def __init__(self) -> None:
        self._output = LiveOutput()
        self._lines: deque[str] = deque(maxlen=_EPOCHS_SHOWN)
        self._began = time.monotonic()

    def show(self, run: RunContext, batches: int, told: str = "") -> None:
        """Show where the fit is within an epoch."""
        part = batches / run.epoch_length if run.epoch_length else 0.0
        done = _share_done(run, run.state.epoch + min(part, 1.0))
        place = f"epoch {run.state.epoch}"
        of = f"batch {batches}/{run.epoch_length}" if run.epoch_length else f"batch {batches}"
        self._output.show(done, "  ".join(filter(None, (place, of, told, self._left(done)))), _aligned(self._lines))

    def end_epoch(self, run: RunContext, line: str) -> None:
        """Show the values of an epoch."""
        self._lines.append(line)
        self._output.show(_share_done(run, run.state.epoch + 1), self._so_far(run), _aligned(self._lines))

    def end(self, run: RunContext) -> None:
        """Show how the fit ended."""
        reason = run.hub.stop_reason
        told = [self._so_far(run), f"stopped by {reason}" if reason else ""]
        self._output.show(_share_done(run, run.state.epoch + 1), "  ".join(filter(None, told)), _aligned(self._lines))

    def _so_far(self, run: RunContext) -> str:
        return f"epoch {run.state.epoch}  step {run.state.step}  {time.monotonic() - self._began:.1f}s"

    def _left(self, done: float | None) -> str:
        if not done or done == 1:
            return ""
        seconds = round((time.monotonic() - self._began) * (1 - done) / done)
        return f"{seconds // 60}:{seconds % 60:02} left"


def _aligned(lines: Iterable[str]) -> list[str]:
    """Return lines of epochs with equal parts below each other; a validation may be missing in some."""
    parts = [line.split("  ") for line in lines]
    if len({len(one) for one in parts}) != 1:
        return ["  ".join(one) for one in parts]
    widths = [max(map(len, column)) for column in zip(*parts, strict=True)]
    return ["  ".join(map(str.ljust, one, widths)).rstrip() for one in parts]


def _share_done(run: RunContext, epochs: float) -> float | None:
    """Return how much of a fit is done, by the limit that is nearest; None if it has none."""
    limits = ((epochs, run.config.max_epochs), (run.state.step, run.config.max_steps))
    shares = [done / limit for done, limit in limits if limit is not None and limit > 0]
    return min(max(shares), 1.0) if shares else None
