"""The progress of a study: one line that changes in a terminal or a notebook, else a line for each trial that ends."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from unitrain.reports.live import LiveOutput, in_notebook
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from unitrain.tuning.plan import StudyPlan
    from unitrain.tuning.queue import TrialQueue

_EVERY = 0.25
"""Seconds between two looks at the study."""
_WORDS = {"PRUNED": "pruned", "FAIL": "failed"}


class StudyProgress:
    """Shows how far a study is.

    Args:
        plan: The study.
        queue: The queue of its trials.
        wanted: Whether to show anything.
    """

    def __init__(self, plan: StudyPlan, queue: TrialQueue, *, wanted: bool) -> None:
        self._plan, self._queue, self._wanted = plan, queue, wanted
        self._began, self._looked = time.monotonic(), 0.0
        self._shown = self._at_first = sum(one.state.is_finished() for one in queue.trials()) if wanted else 0
        self._output = LiveOutput() if wanted and in_notebook() else None
        self._live = self._made() if wanted and self._output is None and sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        """Begin."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show the end."""
        self.update(now=True)
        if self._live is not None:
            self._live.stop()

    def _made(self) -> Any:
        with preserved_rng():  # rich draws a number when it is imported
            from rich.console import Console  # noqa: PLC0415 - only where progress is shown
            from rich.live import Live  # noqa: PLC0415

        return Live("", console=Console(stderr=True), auto_refresh=False)

    def update(self, *, now: bool = False) -> None:
        """Show the study as it is, not too often."""
        if not self._wanted or not (now or time.monotonic() >= self._looked + _EVERY):
            return
        self._looked = time.monotonic()
        trials = list(self._queue.trials())
        finished = sorted((one for one in trials if one.state.is_finished()), key=lambda one: one.datetime_complete)
        if self._output is not None:
            self._output.show(len(finished) / len(trials) if trials else None, self.line(trials, finished))
            return
        if self._live is not None:
            self._live.update(self.line(trials, finished), refresh=True)
            return
        for index in range(self._shown, len(finished)):
            print(f"{self.line(trials, finished[: index + 1])}", file=sys.stderr)  # noqa: T201 - that is what it is for
        self._shown = len(finished)

    def line(self, trials: list[Any], finished: list[Any]) -> str:
        """Return the study in one line."""
        states = Counter(one.state.name for one in finished)
        parts = [f"{len(finished)}/{len(trials)} trials"]
        parts += [f"{states[name]} {word}" for name, word in _WORDS.items() if states[name]]
        parts += [text for text in (self._best(finished), self._time_left(trials, finished)) if text]
        return f"{self._plan.study_name}: {', '.join(parts)}"

    def _best(self, finished: list[Any]) -> str:
        complete = [one for one in finished if one.state.name == "COMPLETE"]
        if len(self._plan.monitor) > 1 or not complete:
            return ""
        best = (min if self._plan.mode == "min" else max)(complete, key=lambda one: one.value)
        return f"best {self._plan.monitor[0]} {best.value:.6g} (trial {best.number})"

    def _time_left(self, trials: list[Any], finished: list[Any]) -> str:
        done, left = len(finished) - self._at_first, len(trials) - len(finished)
        if done < 1 or not left:
            return ""
        seconds = round((time.monotonic() - self._began) / done * left)
        return f"{seconds // 60}:{seconds % 60:02} left"
