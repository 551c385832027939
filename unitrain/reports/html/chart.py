"""Line charts as inline SVG: no script, no font, no picture.

Texts keep their size at any width: places are given in percent, and the lines are in an inner SVG that is stretched,
whose strokes are not. Colours come from `style.css`, so that a chart follows light and dark.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from unitrain.reports.html.markup import Markup, element
from unitrain.reports.html.numbers import number
from unitrain.reports.html.scale import LARGEST, Scale, linear, logarithmic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_HUES, _DASHES = 8, 4
_MOST_X, _MOST_Y = 6, 5
_COLUMNS = 400
"""Into how many columns a long series is thinned; each keeps its extremes, its ends and its gap."""
_DOTS = 40
"""Up to so many points each gets a dot, which tells its value."""
_SIDE = 1000
_SIGNS = {
    "NaN": ("\N{MULTIPLICATION SIGN}", "100%", "-4"),
    "inf": ("▲", "0%", "10"),
    "-inf": ("▼", "100%", "-4"),
    "not positive": ("▼", "100%", "-4"),
    "above": ("▲", "0%", "10"),
    "below": ("▼", "100%", "-4"),
}
"""The sign of a value that has no place, and where it is drawn."""


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: Its name in the legend.
        x: Where its points are.
        y: Their values. None is missing, NaN and infinities are gaps with a sign.
        style: ``"line"``, ``"step"``, or ``"dots"`` without a line.
        hue: Number of its colour; by default its place among the series.
        dash: Number of its dashes, 0 for none; by default its place too.
        is_faint: Whether it stays behind the others.
        is_listed: Whether it is in the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: str = "line"
    hue: int | None = None
    dash: int | None = None
    is_faint: bool = False
    is_listed: bool = True


class Mark(NamedTuple):
    """A vertical line with a text, such as the step of the best checkpoint."""

    x: float
    text: str


class _Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True)
class _Plot:
    """What is drawn, and the axes that it is drawn on."""

    lines: list[list[_Point]]
    across: Scale
    up: Scale

    def at(self, point: _Point) -> str:
        return f"{self.across.place(point.x) * _SIDE:.1f} {(1 - self.up.place(point.y)) * _SIDE:.1f}"


def line_chart(
    series: Sequence[Series],
    *,
    title: str = "",
    x: str = "",
    y: str = "",
    log: bool = False,
    marks: Sequence[Mark] = (),
    within: tuple[float, float] | None = None,
) -> Markup:
    """Return a chart.

    Args:
        series: The lines; the first colours go to the first ones.
        title: The text above it.
        x: What the x axis is.
        y: What the y axis is.
        log: Whether the y axis is logarithmic. Values that are not positive are gaps there.
        marks: Vertical lines.
        within: The values that a linear axis ends at; those beyond are gaps with a sign.
    """
    points = [list(_points(one)) for one in series]
    every = [one for line in points for one in line]
    whole = all(float(one.x).is_integer() for one in every)
    across = linear([*(one.x for one in every), *(one.x for one in marks)], _MOST_X, whole=whole, tight=True)
    up = (logarithmic if log else linear)([one.y for one in every] if within is None else within, _MOST_Y)
    up = up if within is None else replace(up, is_cut=True)
    plot = _Plot(points, across, up)
    named = [element("b", title) if title else None, element("span.axis", y) if y else None]
    caption = element("figcaption", *named, *_legend(series, plot))
    if not any(up.shows(one.y) for one in every):
        return element("figure.chart", caption, element("p.empty", "no values"))
    described = ": ".join(filter(None, (title or y or "chart", ", ".join(one.name for one in series))))
    return element("figure.chart", caption, _svg(series, plot, x, marks, described))


def _svg(series: Sequence[Series], plot: _Plot, x: str, marks: Sequence[Mark], described: str) -> Markup:
    drawn = [_drawn(one, plot, index) for index, one in enumerate(series)]
    box = f"0 0 {_SIDE} {_SIDE}"
    labels = plot.up.labels()
    return element(
        "svg.plot",
        *_grid(plot, labels, x),
        *(_marked(one, plot) for one in marks),
        element("svg", *drawn, viewBox=box, preserveAspectRatio="none", width="100%", height="100%"),
        *(sign for index, one in enumerate(series) for sign in _signs(one, plot, index)),
        role="img",
        aria_label=described,
        style=f"--left:{0.62 * max(map(len, labels), default=1) + 1:.2f}em",
    )


def _points(series: Series) -> Iterator[_Point]:
    for x, y in zip(series.x, series.y, strict=True):
        if y is not None and abs(_float(x)) < LARGEST:  # which NaN is not either
            yield _Point(_float(x), _float(y))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond the largest float
        return math.copysign(math.inf, value)


def _grid(plot: _Plot, labels: Iterable[str], name: str) -> Iterator[Markup]:
    for value, text in zip(plot.up.ticks, labels, strict=True):
        at = f"{(1 - plot.up.place(value)) * 100:.2f}%"
        yield element("line.grid", x1=0, x2="100%", y1=at, y2=at)
        yield element("text.tick", text, x=-8, y=at, dy="0.32em", text_anchor="end")
    for value, text in zip(plot.across.ticks, plot.across.labels(), strict=True):
        at = f"{plot.across.place(value) * 100:.2f}%"
        yield element("line.edge", x1=at, x2=at, y1="100%", y2="100%", stroke_dasharray="none")
        yield element("text.tick", text, x=at, y="100%", dy="1.5em", text_anchor="middle")
    yield element("line.edge", x1=0, x2="100%", y1="100%", y2="100%")
    if name:
        yield element("text.axis", name, x="100%", y="100%", dy="2.9em", text_anchor="end")


def _marked(mark: Mark, plot: _Plot) -> Markup | None:
    if not plot.across.shows(mark.x):
        return None
    place = plot.across.place(mark.x)
    at = f"{place * 100:.2f}%"
    beside = {"dx": -5, "text_anchor": "end"} if place > 0.5 else {"dx": 5}  # noqa: PLR2004 - towards the middle
    return element(
        "g.mark",
        element("line", x1=at, x2=at, y1=0, y2="100%"),
        element("text", mark.text, x=at, y=0, dy="0.9em", **beside),
    )


def _drawn(series: Series, plot: _Plot, index: int) -> Markup:
    """Return the line of a series and its dots."""
    points = plot.lines[index]
    runs = list(_runs(_thinned(points, plot), plot.up))
    lone = [run[0] for run in runs if len(run) == 1]
    dots = points if series.style == "dots" or len(points) <= _DOTS else lone
    lines = [] if series.style == "dots" else [_path(run, plot, series.style) for run in runs if len(run) > 1]
    line = element("path.line", d=" ".join(lines)) if lines else None
    told = [_dot(one, series.name, plot) for one in dots if plot.up.shows(one.y)]
    return element(f"g.{_kind(series, index)}", line, *told)


def _kind(series: Series, index: int) -> str:
    hue, dash = (index if given is None else given for given in (series.hue, series.dash))
    return f"h{hue % _HUES} d{dash % _DASHES}{' faint' if series.is_faint else ''}"


def _dot(point: _Point, name: str, plot: _Plot) -> Markup:
    told = f"{name}: {number(point.y)} at {number(_whole(point.x))}"
    return element("path.dot", element("title", told), d=f"M{plot.at(point)}h0")


def _whole(value: float) -> float:
    return int(value) if value.is_integer() else value


def _path(run: Sequence[_Point], plot: _Plot, style: str) -> str:
    first, *others = run
    if style != "step":
        return f"M{plot.at(first)}" + "".join(f"L{plot.at(one)}" for one in others)
    pairs = zip(run, others, strict=False)
    return f"M{plot.at(first)}" + "".join(f"L{plot.at(_Point(one.x, old.y))}L{plot.at(one)}" for old, one in pairs)


def _runs(points: Iterable[_Point], up: Scale) -> Iterator[list[_Point]]:
    """Yield the parts of a line between its gaps."""
    run: list[_Point] = []
    for one in points:
        if up.shows(one.y):
            run.append(one)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _thinned(points: list[_Point], plot: _Plot) -> list[_Point]:
    """Return the points that change how the line looks: of each column the ends, the extremes and a gap."""
    if len(points) <= 4 * _COLUMNS:
        return points
    columns: dict[int, list[_Point]] = {}
    for one in points:
        columns.setdefault(math.floor(plot.across.place(one.x) * _COLUMNS), []).append(one)
    return [one for column in columns.values() for one in _telling(column, plot.up)]


def _telling(column: list[_Point], up: Scale) -> list[_Point]:
    shown = [index for index, one in enumerate(column) if up.shows(one.y)]
    chosen = {0, len(column) - 1, *(index for index, one in enumerate(column) if not up.shows(one.y))}
    if shown:
        by_value = [min(shown, key=lambda one: column[one].y), max(shown, key=lambda one: column[one].y)]
        chosen |= {*by_value}
    return [column[index] for index in sorted(chosen)]


def _flaw(value: float, up: Scale) -> str | None:
    """Return why a value has no place."""
    if up.shows(value):
        return None
    if math.isnan(value):
        return "NaN"
    if up.is_cut and abs(value) < LARGEST:
        return "above" if value > up.high else "below"
    return "not positive" if up.is_log and -LARGEST < value <= 0 else f"{math.copysign(math.inf, value)}"


def _signs(series: Series, plot: _Plot, index: int) -> Iterator[Markup]:
    """Yield a sign for values that have no place."""
    seen: set[tuple[str, int]] = set()
    for one in plot.lines[index]:
        flaw, column = _flaw(one.y, plot.up), round(plot.across.place(one.x) * _COLUMNS / 4)
        if flaw is None or (flaw, column) in seen:
            continue
        seen.add((flaw, column))
        sign, y, dy = _SIGNS[flaw]
        told = element("title", f"{series.name}: {flaw} at {number(_whole(one.x))}")
        at = f"{plot.across.place(one.x) * 100:.2f}%"
        yield element(f"text.sign.{_kind(series, index)}", sign, told, x=at, y=y, dy=dy, text_anchor="middle")


def _legend(series: Sequence[Series], plot: _Plot) -> Iterator[Markup]:
    for index, one in enumerate(series):
        if not one.is_listed:
            continue
        flaws = Counter(filter(None, (_flaw(point.y, plot.up) for point in plot.lines[index])))
        note = ", ".join(f"{count} {flaw}" for flaw, count in flaws.items())
        if len(series) > 1 or note:
            drawn = element("path.dot", d="M12 5h0") if one.style == "dots" else element("path.line", d="M1 5h22")
            swatch = element("svg", drawn, aria_hidden="true")
            yield element(f"span.key.{_kind(one, index)}", swatch, one.name, element("small", note) if note else None)
