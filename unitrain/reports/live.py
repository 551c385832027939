"""One output of a notebook's cell that changes: no widget, no lines that pile up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from unitrain.reports.html.markup import Content, element

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 20
"""How many characters a bar has where there is no HTML."""
_PRE = "margin:4px 0 0;padding:0;background:none;color:inherit;font-size:0.92em;line-height:1.4;opacity:0.8"
_BAR = "width:220px;height:1em;vertical-align:middle;margin-right:8px"


def in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this code. IPython is not imported for it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class LiveOutput:
    """An output that appears at the first `show` and is replaced by each later one."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the output behind: it belongs to its cell."""
        return {"_handle": None}

    def show(self, done: float | None, told: str, lines: Sequence[str] = ()) -> None:
        """Show a bar, a text beside it and lines below.

        Args:
            done: How much is done, from 0 to 1; None if that is unknown.
            told: The text.
            lines: The lines, such as the values of the last epochs.
        """
        shown = _Shown(done, told, lines)
        if self._handle is None:
            from IPython.display import display  # noqa: PLC0415 - it is there where a kernel runs

            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)


class _Shown:
    """What IPython displays: HTML, or text where a program shows none."""

    def __init__(self, done: float | None, told: str, lines: Sequence[str]) -> None:
        self._done, self._told, self._lines = done, told, tuple(lines)

    def __repr__(self) -> str:
        return "\n".join([f"{self._bar()}{self._told}", *self._lines])

    def _bar(self) -> str:
        if self._done is None:
            return ""
        filled = int(self._done * _WIDTH)
        return f"[{'█' * filled}{' ' * (_WIDTH - filled)}] {self._percent()} "

    def _percent(self) -> str:
        return "" if self._done is None else f"{int(100 * self._done)}%"

    def _repr_html_(self) -> str:
        value = {} if self._done is None else {"value": f"{self._done:.4f}"}
        bar: Content = element("progress", max=1, style=_BAR, **value)
        text = element("span", f"{self._percent()} {self._told}".strip(), style="font-variant-numeric:tabular-nums")
        lines = element("pre", "\n".join(self._lines), style=_PRE) if self._lines else None
        return str(element("div", element("div", bar, text), lines))
