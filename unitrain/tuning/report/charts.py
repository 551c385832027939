"""The charts of a study's page: history or Pareto front, importances, learning curves, parallel coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.reports.html import Markup, Series, bars, element, line_chart
from unitrain.tuning.report.parallel_coordinates import columns_of, near

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.tuning.plan import StudyOutcome
    from unitrain.tuning.report.parallel_coordinates import Column

_DONE, _BEST, _OTHER, _PRUNED = 0, 6, 1, 7
"""Numbers of colours."""
_MOST_BARS, _MOST_COLUMNS, _MOST_CURVES = 12, 8, 200
_SIDE, _NARROW = 1000, 5


def charts(result: StudyOutcome, importance: Mapping[str, float], best: set[int]) -> list[Markup]:
    """Return the charts.

    Args:
        result: The study.
        importance: How much each parameter matters, the most important one first.
        best: Numbers of the best trials.
    """
    alone = len(result.plan.monitor) == 1
    first = _history(result) if alone else _front(result, best)
    curves = [_curves(result, best)] if alone else []
    return [
        first,
        _importances(result.plan.monitor[0], importance),
        *curves,
        _coordinates(result, list(importance), best),
    ]


def _empty(title: str, reason: str) -> Markup:
    return element("figure.chart", element("figcaption", element("b", title)), element("p.empty", reason))


def _in_state(result: StudyOutcome, *states: str) -> list[Any]:
    return [one for one in result.trials if one.state.name in states and one.values]


def _history(result: StudyOutcome) -> Markup:
    complete, pruned = _in_state(result, "COMPLETE"), _in_state(result, "PRUNED")
    if not complete and not pruned:
        return _empty("History", "no trial has a value")
    better = min if result.plan.mode == "min" else max
    so_far = [better(one.value for one in complete[: index + 1]) for index in range(len(complete))]
    series = [
        _points("pruned", pruned, _PRUNED, is_faint=True),
        _points("complete", complete, _DONE),
        Series("best so far", [one.number for one in complete], so_far, "step", hue=_BEST, dash=0),
    ]
    title = f"History of {result.plan.monitor[0]}"
    return line_chart(
        [one for one in series if one.x],
        title=title,
        x="trial",
        within=_focus([one.value for one in (*complete, *pruned)]),
    )


def _points(name: str, trials: Sequence[Any], hue: int, *, is_faint: bool = False) -> Series:
    return Series(
        name, [one.number for one in trials], [one.value for one in trials], "dots", hue=hue, is_faint=is_faint
    )


def _focus(values: Sequence[float]) -> tuple[float, float] | None:
    """Return where an axis ends, so that a few values far off do not flatten the others."""
    inside = near(values)
    return (inside[0], inside[-1]) if inside and len(inside) < len(values) else None


def _front(result: StudyOutcome, best: set[int]) -> Markup:
    """Return two objectives, with the trials that no other beats in all of them."""
    trials = sorted(_in_state(result, "COMPLETE"), key=lambda one: one.values[0])
    if not trials:
        return _empty("Pareto front", "no trial is complete")
    groups = {
        "complete": [one for one in trials if one.number not in best],
        "Pareto front": [one for one in trials if one.number in best],
    }
    is_line = len(result.plan.monitor) == 2  # noqa: PLR2004 - in a plane the front is a line
    series = [
        Series(
            name,
            [one.values[0] for one in chosen],
            [one.values[1] for one in chosen],
            "line" if name == "Pareto front" and is_line else "dots",
            hue=_BEST if name == "Pareto front" else _PRUNED,
            dash=0,
        )
        for name, chosen in groups.items()
        if chosen
    ]
    names = [f"{name} ({way})" for name, way in zip(result.plan.monitor, result.plan.directions, strict=True)]
    return line_chart(series, title="Pareto front", x=names[0], y=names[1])


def _importances(name: str, found: Mapping[str, float]) -> Markup:
    title = f"Importance for {name}"
    if not found:
        return _empty(title, "needs two complete trials that differ")
    return element(
        "figure.chart", element("figcaption", element("b", title)), bars(dict(list(found.items())[:_MOST_BARS]))
    )


def _curves(result: StudyOutcome, best: set[int]) -> Markup:
    """Return what each trial reported; the best one in front."""
    trials = [one for one in result.trials if one.intermediate_values][-_MOST_CURVES:]
    if not trials:
        return _empty("Learning curves", "nothing was reported")
    listed: set[str] = set()
    series = []
    for trial in sorted(trials, key=lambda one: (one.number in best, one.state.name != "PRUNED")):
        kind = "best" if trial.number in best else trial.state.name.lower()
        steps, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        hue = {"best": _BEST, "complete": _DONE, "pruned": _PRUNED}.get(kind, _OTHER)
        name = kind if kind not in listed else f"trial {trial.number}"
        series.append(
            Series(name, steps, values, hue=hue, dash=0, is_faint=kind != "best", is_listed=kind not in listed)
        )
        listed.add(kind)
    every = [value for one in trials for value in one.intermediate_values.values()]
    return line_chart(series, title="Learning curves", x="epoch", y=result.plan.monitor[0], within=_focus(every))


def _coordinates(result: StudyOutcome, by_importance: list[str], best: set[int]) -> Markup:
    """Return a line for each trial through its parameters and its values."""
    trials = sorted(
        _in_state(result, "COMPLETE", "PRUNED"), key=lambda one: (one.number in best, one.state.name == "COMPLETE")
    )
    columns, left_out = columns_of(result.plan, trials, by_importance, _MOST_COLUMNS)
    if not columns:
        return _empty("Parallel coordinates", "no trial has parameters and a value")
    more = element("span.axis", f"{left_out} more parameters") if left_out else None
    lines = [_line(one, index, columns, is_best=one.number in best) for index, one in enumerate(trials)]
    box = f"0 0 {_SIDE} {_SIDE}"
    drawn = element(
        "svg.plot.coordinates",
        element("svg", *lines, viewBox=box, preserveAspectRatio="none", width="100%", height="100%"),
        *(part for at, column in enumerate(columns) for part in _axis(column, at / max(len(columns) - 1, 1))),
        role="img",
        aria_label="Parallel coordinates",
        style="--left:3.00em",
    )
    caption = element("figcaption", element("b", "Parallel coordinates"), more)
    kind = "chart wide" if len(columns) > _NARROW or len(result.plan.monitor) > 1 else "chart"
    return element("figure", caption, element("div.scroll", drawn), class_=kind)


def _line(trial: Any, index: int, columns: Sequence[Column], *, is_best: bool) -> Markup:
    across = _SIDE / max(len(columns) - 1, 1)
    path, pen = "", "M"
    for at, column in enumerate(columns):
        place = column.places[index]
        if place == place:  # noqa: PLR0124 - NaN: the trial has no such parameter
            path += f"{pen}{at * across:.1f} {(1 - place) * _SIDE:.1f}"
            pen = "L"
        else:
            pen = "M"
    hue = _BEST if is_best else _DONE if trial.state.name == "COMPLETE" else _PRUNED
    name = element("title", f"trial {trial.number}")
    return element("g", element("path.line", name, d=path), class_=f"h{hue}" if is_best else f"h{hue} faint")


def _axis(column: Column, at: float) -> Iterator[Markup]:
    x = f"{100 * at:.2f}%"
    yield element("line.edge", x1=x, x2=x, y1=0, y2="100%")
    anchor = {0.0: "start", 1.0: "end"}.get(at, "middle")  # there is no room beyond the first and the last one
    yield element(
        "text.tick", column.name, x=x, y="100%", dx="-2.5em" if at == 0 else 0, dy="1.7em", text_anchor=anchor
    )
    side = {"dx": -5, "text_anchor": "end"} if at == 1 else {"dx": 5}
    for place, text in column.ticks:
        yield element(
            "text.tick", text, x=x, y=f"{100 * (1 - place):.2f}%", dy="-0.3em" if place < 1 else "1em", **side
        )
