"""The picture of a study: history or Pareto front, importances, learning curves, parallel coordinates.

It draws with matplotlib's objects only. So it needs no display, changes no settings of the user, and is the same for
the same trials whatever these settings are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import style
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from unitrain.errors import UnitrainError
from unitrain.tuning.report.importances import importances
from unitrain.tuning.report.parallel_coordinates import columns_of, near
from unitrain.utilities.files import save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unitrain.tuning.plan import StudyOutcome

_BEST, _DONE, _PRUNED, _CROSS, _INK = "#c2255c", "#2f6f9f", "#a3a9b0", "#6c757d", "#343a40"
_LOOK = {
    "axes.edgecolor": "#adb5bd",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.dpi": 120,
    "grid.color": "#e9ecef",
    "legend.fontsize": 9,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "savefig.dpi": 150,
    "svg.hashsalt": "unitrain",
    "text.color": _INK,
    "xtick.color": "#868e96",
    "xtick.labelcolor": _INK,
    "ytick.color": "#868e96",
    "ytick.labelcolor": _INK,
}
_ONE_OBJECTIVE: list[Any] = [["values", "importances"], ["curves", "coordinates"]]
_SEVERAL: list[Any] = [["values", "importances"], ["coordinates", "coordinates"]]
"""The panels; trials of several objectives report nothing from epoch to epoch, so they have no curves."""
_MOST_BARS, _MOST_COLUMNS = 12, 6


def plot_study(result: StudyOutcome, path: str | Path) -> None:
    """Write the picture of a study atomically; the suffix of ``path`` sets the format.

    Raises:
        UnitrainError: If the file cannot be written.
    """
    with style.context(["default", _LOOK]):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.03)
        figure = Figure(figsize=(13, 9), layout=layout)
        figure.suptitle(_headline(result), x=0.012, ha="left", fontsize=14)
        bars, alone = importances(result), len(result.plan.monitor) == 1
        panels = figure.subplot_mosaic(_ONE_OBJECTIVE if alone else _SEVERAL)
        (_history if alone else _front)(panels["values"], result)
        _bars(panels["importances"], result.plan.monitor[0], bars)
        if alone:
            _curves(panels["curves"], result)
        _coordinates(panels["coordinates"], result, list(bars), _MOST_COLUMNS if alone else 2 * _MOST_COLUMNS)
        save_figure(figure, path, UnitrainError)


def _headline(result: StudyOutcome) -> str:
    trials, plan = result.trials, result.plan
    words = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    counts = [(sum(one.state.name == state for one in trials), word) for state, word in words.items()]
    parts = [f"{len(trials)} trial{'s' * (len(trials) != 1)}", *(f"{count} {word}" for count, word in counts if count)]
    if len(plan.monitor) == 1 and counts[0][0]:
        parts.append(f"best {plan.monitor[0]} {result.best_trial.value:.6g} in trial {result.best_trial.number}")
    return f"{plan.study_name}:  {',  '.join(parts)}"


def _in_state(result: StudyOutcome, *states: str) -> list[Any]:
    return [one for one in result.trials if one.state.name in states and one.values]


def _empty(axes: Any, title: str, reason: str) -> None:
    """Say in a panel why there is nothing in it."""
    axes.set(title=title, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, reason, ha="center", va="center", color="#868e96", transform=axes.transAxes)


def _history(axes: Any, result: StudyOutcome) -> None:
    complete, pruned = _in_state(result, "COMPLETE"), _in_state(result, "PRUNED")
    name, better = result.plan.monitor[0], min if result.plan.mode == "min" else max
    if not complete and not pruned:
        _empty(axes, "History", "no trial has a value")
        return
    _points(axes, pruned, "o", label="pruned", facecolors="none", edgecolors=_PRUNED)
    _points(axes, complete, "o", label="complete", color=_DONE, alpha=0.85)
    if complete:
        so_far = [better(one.value for one in complete[: index + 1]) for index in range(len(complete))]
        axes.step([one.number for one in complete], so_far, where="post", color=_BEST, label="best so far")
        _points(axes, [result.best_trial], "*", color=_BEST, s=150, zorder=3)
    axes.set(title="History", xlabel="trial", ylabel=name, xlim=(-0.5, max(len(result.trials) - 0.5, 0.5)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    _focus(axes, [one.value for one in (*complete, *pruned)])
    axes.legend()


def _points(axes: Any, trials: list[Any], marker: str, **looks: Any) -> None:
    if trials:
        axes.scatter([one.number for one in trials], [one.value for one in trials], marker=marker, **looks)


def _front(axes: Any, result: StudyOutcome) -> None:
    """Draw two objectives, with the trials that no other beats in all of them."""
    trials = _in_state(result, "COMPLETE")
    if not trials:
        _empty(axes, "Pareto front", "no trial is complete")
        return
    numbers = {one.number for one in result.study.best_trials}
    front = sorted((one for one in trials if one.number in numbers), key=lambda one: one.values)
    others = [one for one in trials if one.number not in numbers]
    for chosen, looks in ((others, {"color": _PRUNED, "label": "complete"}), (front, {"color": _BEST, "s": 60})):
        axes.scatter([one.values[0] for one in chosen], [one.values[1] for one in chosen], **looks)
    if len(result.plan.monitor) == 2:  # noqa: PLR2004 - in a plane the front is a line
        axes.plot([one.values[0] for one in front], [one.values[1] for one in front], color=_BEST, label="Pareto front")
    for one in front:
        axes.annotate(str(one.number), one.values[:2], xytext=(5, 5), textcoords="offset points", fontsize=9)
    names = [
        f"{name} ({direction})" for name, direction in zip(result.plan.monitor, result.plan.directions, strict=True)
    ]
    axes.set(title="Pareto front", xlabel=names[0], ylabel=names[1])
    axes.legend()


def _bars(axes: Any, name: str, found: dict[str, float]) -> None:
    title = f"Importance for {name}"
    if not found:
        _empty(axes, title, "needs two complete trials that differ")
        return
    shown = list(found.items())[:_MOST_BARS][::-1]
    drawn = axes.barh([one for one, _ in shown], [value for _, value in shown], color=_DONE, height=0.6)
    axes.bar_label(drawn, fmt="%.2f", padding=4, fontsize=9)
    axes.set(title=title, xlabel="share", xlim=(0, 1.12 * max(1e-9, *found.values())))
    axes.grid(visible=False, axis="y")


def _curves(axes: Any, result: StudyOutcome) -> None:
    """Draw what each trial reported; those that were pruned end in a cross."""
    trials = [one for one in result.trials if one.intermediate_values]
    if not trials:
        _empty(axes, "Learning curves", "nothing was reported")
        return
    best = result.best_trial.number if _in_state(result, "COMPLETE") else None
    strength = max(0.25, min(0.9, 15 / len(trials)))
    kinds: dict[str, dict[str, Any]] = {
        "pruned": {"color": _PRUNED},
        "complete": {"color": _DONE},
        "best": {"color": _BEST, "linewidth": 2.4},
    }
    drawn = {}
    for trial in sorted(trials, key=lambda one: (one.number == best, one.state.name != "PRUNED")):
        points = sorted(trial.intermediate_values.items())
        kind = "best" if trial.number == best else trial.state.name.lower()
        looks: dict[str, Any] = {"alpha": 1.0 if kind == "best" else strength, **kinds.get(kind, {"color": "#e67700"})}
        axes.plot(*zip(*points, strict=True), marker="." if len(points) == 1 else "", **looks)
        if kind == "pruned":
            axes.plot(*points[-1], marker="x", color=_CROSS, markersize=6, linestyle="")
        drawn[kind] = Line2D([], [], **{**looks, "alpha": 1}, marker="x" * (kind == "pruned"), markeredgecolor=_CROSS)
    axes.set(title="Learning curves", xlabel="epoch", ylabel=result.plan.monitor[0])
    axes.xaxis.get_major_locator().set_params(integer=True)
    _focus(axes, [value for one in trials for value in one.intermediate_values.values()])
    axes.legend(drawn.values(), drawn)


def _focus(axes: Any, values: Sequence[float]) -> None:
    """Let a few values far off not flatten all others; the panel says how many it cuts off."""
    inside = near(values)
    outside = len(values) - len(inside)
    if outside and inside:
        margin = 0.06 * (inside[-1] - inside[0] or 1.0)
        axes.set_ylim(inside[0] - margin, inside[-1] + margin)
        text = f"{outside} value{'s' * (outside != 1)} beyond the edge"
        axes.set_title(text, loc="right", fontsize=9, fontweight="normal", color="#868e96")


def _coordinates(axes: Any, result: StudyOutcome, by_importance: list[str], most: int) -> None:
    """Draw a line for each trial through its parameters and its value, the better the darker."""
    trials = _in_state(result, "COMPLETE", "PRUNED")
    columns, left_out = columns_of(result.plan, trials, by_importance, most)
    if not columns:
        _empty(axes, "Parallel coordinates", "no trial has parameters and a value")
        return
    colours = _colours(result)
    order = sorted(range(len(trials)), key=lambda index: list(colours).index(trials[index].number))
    lines = [[(x, column.places[index]) for x, column in enumerate(columns)] for index in order]
    shades = [colours[trials[index].number] for index in order]
    widths = [2.4 if shade == _BEST else 1.2 for shade in shades]
    axes.add_collection(LineCollection(lines, colors=shades, linewidths=widths))
    axes.set(xlim=(-0.2, len(columns) - 0.6), ylim=(-0.06, 1.06), yticks=[])
    axes.set_title("Parallel coordinates" + (f" ({left_out} more parameters)" if left_out else ""))
    axes.set_xticks(range(len(columns)), [one.name for one in columns], fontsize=9)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    for x, column in enumerate(columns):
        axes.axvline(x, color="#adb5bd", linewidth=1, zorder=0)
        for place, text in column.ticks:
            axes.text(x + 0.04, place, text, fontsize=8, va="center", bbox=_BEHIND, zorder=3)


_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


def _colours(result: StudyOutcome) -> dict[int, Any]:
    """Return the colour of each trial by its number, in the order of drawing: the pruned ones, the worst, the best."""
    colours: dict[int, Any] = {one.number: "#dee2e6" for one in _in_state(result, "PRUNED")}
    ranked = sorted(_in_state(result, "COMPLETE"), key=result.plan.rank, reverse=True)
    for index, one in enumerate(ranked):
        step = index / max(len(ranked) - 1, 1)
        colours[one.number] = (0.80 - 0.62 * step, 0.88 - 0.45 * step, 0.94 - 0.32 * step, 0.9)
    front = {one.number for one in result.study.best_trials} if len(result.plan.monitor) > 1 else None
    for one in ranked[-1:] if front is None else [one for one in ranked if one.number in front]:
        colours.pop(one.number, None)
        colours[one.number] = _BEST
    return colours
