"""One progress bar on every backend; plain lines where there is no terminal."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from unitrain.run.context import RunContext

_REFRESH_SECONDS = 0.1


@named_arguments(ConfigError, callback_arguments_for)
class ProgressBar(Callback):
    """Shows where training is: one bar per epoch on a terminal, one line per epoch elsewhere, on stderr.

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

    @cached_property
    def _screen(self) -> Any:
        with preserved_rng():  # rich draws a number when it is imported
            from rich.console import Console  # noqa: PLC0415 - only where a bar is shown

        return Console(stderr=True) if self._console is None else self._console

    def __getstate__(self) -> dict[str, Any]:
        """Drop the console, which cannot be pickled."""
        return {name: value for name, value in vars(self).items() if name != "_screen"} | {"_bar": None}

    def on_fit_start(self, run: RunContext) -> None:
        """Start the bar of a resumed epoch; it has no EPOCH_START of its own."""
        if run.state.batch:
            self.on_epoch_start(run)

    def on_epoch_start(self, run: RunContext) -> None:
        """Start the epoch's bar."""
        self.close()
        self._started = time.monotonic()
        if not self._screen.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[loss]}"), console=self._screen, transient=True)
        self._task = self._bar.add_task(f"epoch {run.state.epoch}", total=run.epoch_length, loss="")
        self._first = run.state.batch - (run.state.batch % run.epoch_length if run.epoch_length else 0)
        self._bar.start()

    def on_batch_end(self, run: RunContext) -> None:
        """Move the bar, if it is time."""
        if self._bar is None or time.monotonic() < self._next_refresh:
            return
        self._next_refresh = time.monotonic() + _REFRESH_SECONDS
        loss = "" if run.state.loss is None else f"train/loss {float(run.state.loss):.4g}"
        self._bar.update(self._task, completed=run.state.batch - self._first, loss=loss)

    def on_val_start(self, run: RunContext) -> None:
        """Show that validation is running."""
        if self._bar is not None:
            self._bar.update(self._task, completed=run.state.batch - self._first, loss="validating")

    def on_epoch_end(self, run: RunContext) -> None:
        """Leave one line of the epoch."""
        self.close()
        seconds = time.monotonic() - self._started
        values = "  ".join(f"{name} {value:.4g}" for name, value in sorted(run.hub.epoch_metrics.items()))
        line = f"epoch {run.state.epoch}  step {run.state.step}  {values}  {seconds:.1f}s"
        if self._console is not None or self._screen.is_terminal or self._screen.is_jupyter:
            self._screen.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._screen.file)  # as rich would, but rich takes a tenth of an epoch of five batches

    def close(self) -> None:
        """Remove the bar, also after an error so that the error is readable."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
