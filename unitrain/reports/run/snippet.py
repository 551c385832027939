"""A result in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.reports.html.markup import element, joined
from unitrain.reports.html.notebook import sparkline, summary
from unitrain.reports.run.curves import lines_of

if TYPE_CHECKING:
    from unitrain.reports.run.record import Outcome


def snippet(result: Outcome) -> str:
    """Return a result as small HTML: each metric in the first and in the last epoch, and its curve."""
    lines = lines_of(result.history)
    rows = [
        (
            name,
            lines[name][1][0] if name in lines else None,
            value,
            sparkline(lines[name][1]) if name in lines else None,
        )
        for name, value in result.metrics.items()
    ]
    epochs = f"{len(result.history)} epoch{'s' * (len(result.history) != 1)}"
    title = f"{epochs}, {result.step} steps on {result.framework}, stopped by {result.stopped_by}"
    kept = {"best checkpoint": result.best_checkpoint, "last checkpoint": result.last_checkpoint}
    notes = [joined([f"{name}: ", element("code", path)]) for name, path in kept.items() if path is not None]
    return summary(title, ["metric", "first", "last", ""], rows, *notes)
