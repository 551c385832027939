"""A comparison as a page for a browser, and as a small table for a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.reports.html import (
    Card,
    Markup,
    Row,
    Section,
    Series,
    beside,
    cards,
    code,
    definitions,
    duration,
    fold,
    line_chart,
    notice,
    page,
    paragraph,
    pill,
    size,
    table,
)
from unitrain.reports.html.notebook import summary
from unitrain.testing.comparison.told import distance, headline, status, where
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from unitrain.reports.html.markup import Content
    from unitrain.testing.comparison.difference import Difference
    from unitrain.testing.comparison.outcome import Outcome, Side

_LOOKS = {"equal": "good", "different": "bad", "failed": "bad"}
_BACKEND, _ON_GPU = "backend", "peak on the GPU"
_CELLS: dict[str, Callable[[Side], Content]] = {
    "side": lambda one: one.name,
    _BACKEND: lambda one: one.framework or "",
    "how it ended": status,
    "steps": lambda one: one.steps,
    "time": lambda one: None if one.seconds is None else duration(one.seconds),
    "peak memory": lambda one: None if one.memory is None else size(one.memory),
    _ON_GPU: lambda one: None if one.gpu_memory is None else size(one.gpu_memory),
    "last loss": lambda one: one.loss[-1][1] if one.loss else None,
}
"""What is said of a side, by column."""
_WITH_UNITS = ("time", "peak memory", _ON_GPU)
_NOT_METRICS = ("epoch", "step")


def page_of(result: Outcome) -> str:
    """Return the page."""
    sections = [
        Section("", [cards(_figures(result))], bare=True),
        *(_section_of(one) for one in result.differences),
        *_failures(result.sides),
        *([Section("", [notice(one) for one in result.notes], bare=True)] if result.notes else []),
        *([] if result.steps is None else [Section("Sides", [_sides(result.sides)])]),
        *_curves(result.sides),
        Section("What was compared", list(_compared(result))),
    ]
    return page(
        "Comparison",
        sections,
        subtitle=headline(result),
        status=pill(result.status, _LOOKS[result.status]),
        footer=f"Written by unitrain {__version__}.",
    )


def summary_of(result: Outcome) -> str:
    """Return a small piece of HTML for a notebook."""
    first = result.difference
    notes = [] if first is None else [where(first), _short(first), first.cause, first.hint or ""]
    if result.steps is None:
        return summary(headline(result), (), (), *notes, *result.notes)
    return summary(headline(result), _columns(result.sides), _rows(result.sides), *notes, *result.notes)


def _figures(result: Outcome) -> list[Card]:
    first, look = result.difference, _LOOKS[result.status]
    found = [Card("result", result.status, look)]
    if result.steps is not None:
        found.append(Card("equal steps", result.steps))
    if first is not None:
        at = "weights" if first.step is None else f"step {first.step}" if first.step else "the beginning"
        found += [Card("first difference", at, "bad", first.phase)]
        if first.bits[0]:
            found.append(Card("distance", "none" if first.ulp is None else f"{first.ulp} ulp", "bad"))
    return found


def _section_of(one: Difference) -> Section:
    title = f"{one.sides[0]} and {one.sides[1]}"
    sides = [(name, value, bits) for name, value, bits in zip(one.sides, one.values, one.bits, strict=True) if value]
    content = [
        notice(paragraph(one.cause), paragraph("Hint: ", one.hint) if one.hint else None, kind="bad")
        if one.cause
        else None,
        definitions(
            {
                "where": where(one).partition(": ")[2],
                "tensor": one.place,
                "type": None if one.dtype is None else f"{one.dtype}{'' if one.shape is None else f' {one.shape}'}",
                "distance": distance(one) if one.bits[0] else None,
                "module": None if one.module is None else f"{one.module}: the first whose call differs",
            }
        ),
        table(("side", "value", "bits"), sides) if sides else None,
    ]
    return Section(title, [part for part in content if part is not None], note="the first difference")


def _short(one: Difference) -> str:
    if one.place is None:
        return ""
    values = " and ".join(
        f"{value} ({bits})" if bits else value for value, bits in zip(one.values, one.bits, strict=True)
    )
    return f"{one.place}: {values}{f', {distance(one)}' if one.bits[0] else ''}"


def _failures(sides: Sequence[Side]) -> Iterator[Section]:
    for one in sides:
        if one.error is not None:
            trace = [fold("traceback", code(one.traceback))] if one.traceback else []
            yield Section(f"{one.name} failed", [notice(paragraph(one.error), kind="bad"), *trace])


def _sides(sides: Sequence[Side]) -> Markup:
    rows = [Row(row, "bad" if one.status == "failed" else "") for row, one in zip(_rows(sides), sides, strict=True)]
    return table(_columns(sides), rows, right=_WITH_UNITS)


def _columns(sides: Sequence[Side]) -> list[str]:
    """Return the columns without those that say nothing: a backend that is the side's name, a GPU that was not used."""
    shown = {
        _BACKEND: any(one.framework not in (None, one.name) for one in sides),
        _ON_GPU: any(one.gpu_memory for one in sides),
    }
    return [name for name in _CELLS if shown.get(name, True)]


def _rows(sides: Sequence[Side]) -> list[list[Content]]:
    return [[_CELLS[name](one) for name in _columns(sides)] for one in sides]


def _curves(sides: Sequence[Side]) -> Iterator[Section]:
    charts = [line_chart(_losses(sides), title="training loss", x="batch")] if any(one.loss for one in sides) else []
    names = dict.fromkeys(name for one in sides for row in one.history for name in row if name not in _NOT_METRICS)
    charts += [line_chart(_metric(sides, name), title=name, x="epoch") for name in names]
    if charts:
        yield Section("Curves", [beside(*charts)])


def _losses(sides: Sequence[Side]) -> list[Series]:
    return [Series(one.name, range(1, len(one.loss) + 1), [loss for _, loss in one.loss]) for one in sides if one.loss]


def _metric(sides: Sequence[Side], name: str) -> list[Series]:
    found = []
    for one in sides:
        rows = [row for row in one.history if name in row]
        if rows:
            found.append(Series(one.name, [row["epoch"] for row in rows], [row[name] for row in rows]))
    return found


def _compared(result: Outcome) -> Iterator[Markup]:
    yield paragraph(
        "Two values are equal if they have the same type, the same shape and the same bits; NaN equals NaN. Compared: ",
        ", ".join(result.compared) or "nothing",
        ".",
    )
    if any(one.observing for one in result.sides):
        told = ", ".join(f"{one.name} {duration(one.observing or 0.0)}" for one in result.sides)
        yield paragraph(f"Times are from the first batch on, without the time that observing took: {told}.")
