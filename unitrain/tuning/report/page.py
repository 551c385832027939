"""A study as one page for a browser, which needs no network."""

from __future__ import annotations

import base64
import tempfile
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from unitrain.tuning.report.importances import importances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitrain.tuning.plan import StudyOutcome

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #343a40; background: #f4f5f7; margin: 0; }
main { max-width: 1200px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 28px 0 10px; }
p { margin: 0; color: #6c757d; }
section { background: white; border-radius: 10px; padding: 18px; box-shadow: 0 1px 3px #0001; overflow-x: auto; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.card { background: white; border-radius: 10px; padding: 12px 18px; min-width: 90px; box-shadow: 0 1px 3px #0001; }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.card.best b { color: #c2255c; }
img { width: 100%; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid #e9ecef; white-space: nowrap; }
th { color: #6c757d; font-weight: 600; position: sticky; top: 0; background: white; }
tr.best td { font-weight: 600; color: #c2255c; }
tr.pruned td, tr.waiting td, tr.running td { color: #868e96; }
tr.fail td { color: #d9480f; }
td.why { white-space: normal; }
</style>
</head>
<body>
<main>
<h1>$name</h1>
<p>$about</p>
<div class="cards">$cards</div>
<section><img alt="history, importances, learning curves and parallel coordinates" src="$picture"></section>
<h2>Trials</h2>
<section><table>
<thead><tr>$header</tr></thead>
<tbody>
$rows
</tbody>
</table></section>
</main>
</body>
</html>
""")


def page(result: StudyOutcome) -> str:
    """Return the page of a study."""
    plan = result.plan
    objectives = ", ".join(f"{way} {name}" for name, way in zip(plan.monitor, plan.directions, strict=True))
    ranked = sorted((one for one in result.trials if one.values), key=plan.rank)
    others = [one for one in result.trials if not one.values]
    names = list(dict.fromkeys([*importances(result), *sorted({name for one in ranked for name in one.params})]))
    best = _best(result)
    return _PAGE.substitute(
        name=escape(plan.study_name),
        about=escape(f"{objectives}; seed {plan.seed}, parallel {plan.parallel}, sampler {plan.sampler}"),
        cards="".join(_cards(result, best)),
        picture=_picture(result),
        header="".join(f"<th>{escape(one)}</th>" for one in ("trial", "state", *plan.monitor, *names, "time", "")),
        rows="\n".join(_row(result, one, names, is_best=one.number in best) for one in (*ranked, *others)),
    )


def _best(result: StudyOutcome) -> set[int]:
    """Return the numbers of the trials that no other beats."""
    if len(result.plan.monitor) > 1:
        return {one.number for one in result.study.best_trials}
    complete = any(one.state.name == "COMPLETE" for one in result.trials)
    return {result.best_trial.number} if complete else set()


def _cards(result: StudyOutcome, best: set[int]) -> list[str]:
    states = [one.state.name.lower() for one in result.trials]
    cards = [("trials", str(len(states)), "")]
    cards += [(state, str(states.count(state)), "") for state in sorted(set(states))]
    if len(result.plan.monitor) == 1 and best:
        cards.append((f"best {result.plan.monitor[0]}", f"{result.best_trial.value:.6g}", "best"))
        cards += [(name, _text(value), "") for name, value in result.best_trial.params.items()]
    return [f'<div class="card {kind}"><b>{escape(value)}</b>{escape(name)}</div>' for name, value, kind in cards]


def _row(result: StudyOutcome, trial: Any, names: Sequence[str], *, is_best: bool) -> str:
    values = list(trial.values or ()) + [""] * (len(result.plan.monitor) - len(trial.values or ()))
    seconds = "" if trial.duration is None else f"{trial.duration.total_seconds():.1f} s"
    cells = [trial.number, trial.state.name.lower(), *values, *(trial.params.get(one, "") for one in names), seconds]
    told = "".join(f"<td>{escape(_text(one))}</td>" for one in cells)
    why = escape(str(trial.system_attrs.get("fail_reason") or ""))
    return f'<tr class="{"best" if is_best else trial.state.name.lower()}">{told}<td class="why">{why}</td></tr>'


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _picture(result: StudyOutcome) -> str:
    """Return the picture, as the address of an image within the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.svg"
        result.plot(path)
        return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
