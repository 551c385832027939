"""A study as one page for a browser, which needs no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.reports.html import Card, Row, Section, beside, cards, duration, page, table
from unitrain.tuning.report.charts import charts
from unitrain.tuning.report.importances import importances
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from unitrain.tuning.plan import StudyOutcome

_LOOKS = {"PRUNED": "muted", "WAITING": "muted", "RUNNING": "muted", "FAIL": "bad"}


def study_page(result: StudyOutcome) -> str:
    """Return the page of a study."""
    plan = result.plan
    objectives = ", ".join(f"{way} {name}" for name, way in zip(plan.monitor, plan.directions, strict=True))
    ranked = sorted((one for one in result.trials if one.values), key=plan.rank)
    others = [one for one in result.trials if not one.values]
    importance = importances(result)
    names = list(dict.fromkeys([*importance, *sorted({name for one in ranked for name in one.params})]))
    best = _best(result)
    reasons = {
        one.number: one.system_attrs["fail_reason"] for one in result.trials if "fail_reason" in one.system_attrs
    }
    why = ["why it failed"] if reasons else []
    columns = ["trial", "state", *plan.monitor, *names, "time", *why]
    rows = [_row(result, one, names, reasons, best) for one in (*ranked, *others)]
    return page(
        plan.study_name,
        [
            Section("", [cards(_cards(result, best))], bare=True),
            Section("The search", [beside(*charts(result, importance, best))]),
            Section("Trials", [table(columns, rows, right=["time"])], "the best first"),
        ],
        subtitle=f"{objectives}; seed {plan.seed}, parallel {plan.parallel}, sampler {plan.sampler}",
        footer=f"Written by unitrain {__version__}.",
    )


def _best(result: StudyOutcome) -> set[int]:
    """Return the numbers of the trials that no other beats."""
    if len(result.plan.monitor) > 1:
        return {one.number for one in result.study.best_trials}
    complete = any(one.state.name == "COMPLETE" for one in result.trials)
    return {result.best_trial.number} if complete else set()


def _cards(result: StudyOutcome, best: set[int]) -> Iterator[Card]:
    states = [one.state.name.lower() for one in result.trials]
    told = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    yield Card("trials", len(states), note=told)
    if len(result.plan.monitor) == 1 and best:
        trial = result.best_trial
        yield Card(f"best {result.plan.monitor[0]}", trial.value, "best", f"trial {trial.number}")
        yield from (Card(name, value, note=f"of trial {trial.number}") for name, value in trial.params.items())


def _row(
    result: StudyOutcome, trial: Any, names: Sequence[str], reasons: Mapping[int, Any], best: Collection[int]
) -> Row:
    """Return the row of a trial; without ``reasons``, none failed."""
    values = list(trial.values or ()) + [None] * (len(result.plan.monitor) - len(trial.values or ()))
    time = None if trial.duration is None else duration(trial.duration.total_seconds())
    cells = [trial.number, trial.state.name.lower(), *values, *(trial.params.get(one) for one in names), time]
    why = [str(reasons[trial.number]) if trial.number in reasons else None] if reasons else []
    return Row([*cells, *why], "best" if trial.number in best else _LOOKS.get(trial.state.name, ""))
