"""The page of a run."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.reports.html import (
    Card,
    Markup,
    Row,
    Section,
    beside,
    cards,
    code,
    definitions,
    duration,
    fold,
    notice,
    number,
    page,
    paragraph,
    pill,
    size,
    table,
)
from unitrain.reports.run import curves
from unitrain.reports.run.process import is_alive
from unitrain.reports.run.record import FAILED, FINISHED, INTERRUPTED, RUNNING, RunRecord
from unitrain.utilities.secrets import without_secrets
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.reports.run.folder import CheckpointFile, Found

_STATUSES = {FINISHED: "good", FAILED: "bad", INTERRUPTED: "warm", RUNNING: "warm"}
_MAIN, _MOST_METRICS, _MOST_COLUMNS, _MOST_ROWS, _LONGEST = 4, 300, 40, 400, 200_000
"""How many metrics get a card or a row, columns and rows of a history, and characters of a text are shown."""


def run_page(found: Found) -> str:
    """Return the page of a run."""
    record = found.record or RunRecord(status=FINISHED, framework="")
    history = [dict(row) for row in record.history] or found.values.history()
    sections = [
        Section("", [*_notices(found, record), cards(_cards(record, history))], bare=True),
        *_curves(found, record, history),
        *_numbers(record, history),
        *_checkpoints(found, record),
        *_profile(record),
        *_ran(found, record),
        *_warnings(record),
    ]
    return page(
        f"Run {found.name}" if found.name.isdigit() else found.name,
        sections,
        subtitle=_subtitle(record) or found.where,
        status=_status(found),
        footer=f"Written by unitrain {__version__}, {_when(datetime.now(UTC))}.",
    )


def _status(found: Found) -> Markup | None:
    if found.record is None:
        return None
    told = found.record.status if found.record.status != RUNNING else _running(found.record)
    return pill(told, _STATUSES[found.record.status])


def _alive(record: RunRecord) -> bool | None:
    return is_alive(record.process, record.hardware.get("host"), record.started)


def _running(record: RunRecord) -> str:
    return {True: "running", False: "killed", None: "running, or killed"}[_alive(record)]


def _subtitle(record: RunRecord) -> str:
    told = {
        "on ": record.framework,
        "seed ": None if record.seed is None else str(record.seed),
        "started ": _day(record.started),
        "took ": None if record.seconds is None else duration(record.seconds),
        "stopped by ": record.stopped_by,
        "resumed from ": record.resumed_from,
    }
    return ", ".join(before + text for before, text in told.items() if text)


def _day(text: str) -> str:
    try:
        return _when(datetime.fromisoformat(text))
    except ValueError:
        return text


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()


def _notices(found: Found, record: RunRecord) -> Iterator[Markup]:
    if record.error is not None:
        kind = "warm" if record.status == INTERRUPTED else "bad"
        trace = without_secrets(record.error.get("traceback", ""))
        told = without_secrets(f"{record.error.get('type', 'Error')}: {record.error.get('message', '')}".rstrip(": "))
        yield notice(paragraph(told), fold("traceback", code(trace)) if trace else None, kind=kind)
    if found.record is not None and record.status == RUNNING:
        yield notice(
            {
                True: "The run goes on: this is how far it is.",
                False: "The run's process ended without a word: it was killed, or its machine was restarted.",
                None: "The run has not ended, or was killed; this machine cannot tell.",
            }[_alive(record)]
        )
    if found.missing:
        yield notice(*map(paragraph, found.missing), kind="muted")
    if found.values.unread:
        yield notice(f"{found.values.unread} cells of the CSV file are no numbers and are left out.")


# --- numbers ----------------------------------------------------------------------------------------------------------


def _cards(record: RunRecord, history: Sequence[Mapping[str, float]]) -> Iterator[Card]:
    lines = curves.lines_of(history)
    last = dict(record.metrics) or {name: line[1][-1] for name, line in lines.items()}
    names = [name for name in last if not curves.is_rate(name)]
    for name in sorted(names, key=lambda one: one.startswith("train"))[:_MAIN]:
        first = lines[name][1][0] if name in lines else math.nan
        yield Card(name, f"{last[name]:.4g}", note="" if math.isnan(first) else f"first {first:.4g}")
    if history:
        yield Card("epochs", len(history))
    step = record.step if record.step is not None else max((row.get("step", math.nan) for row in history), default=None)
    if step is not None and math.isfinite(step):
        yield Card("steps", f"{int(step):,}")
    if record.seconds is not None:
        yield Card("time", duration(record.seconds))
    pace = step_seconds(record)
    if pace is not None:
        yield Card("time a step", duration(pace), note="with validation")


def step_seconds(record: RunRecord) -> float | None:
    """Return the median time of a step, in seconds; the first epoch, which warms up, only counts alone."""
    paces = [one["seconds"] / one["steps"] for one in record.times if one.get("steps") and "seconds" in one]
    return statistics.median(paces[1:] or paces) if paces else None


def _curves(found: Found, record: RunRecord, history: Sequence[Mapping[str, float]]) -> Iterator[Section]:
    lines, steps = curves.lines_of(history), curves.step_lines(found.values)
    if metrics := curves.without_rates(lines):
        yield Section("Each epoch", [beside(*curves.charts(metrics, "epoch"))])
    if metrics := curves.without_rates(steps):
        note = "as logged: log_every_n_steps= sets how often"
        yield Section("Each step", [beside(*curves.charts(metrics, found.values.by))], note)
    rates = curves.rates_of(steps)
    drawn = curves.charts(rates, found.values.by)
    if not rates:
        drawn = curves.charts(curves.rates_of({**curves.lines_of(record.rates), **lines}), "epoch")
    if len(record.times) > 1:
        drawn += curves.charts({"seconds an epoch": _seconds(record)}, "epoch")
    if drawn:
        yield Section("Learning rate and time", [beside(*drawn)])


def _seconds(record: RunRecord) -> curves.Line:
    return [one.get("epoch", 0) for one in record.times], [one.get("seconds", math.nan) for one in record.times]


def _numbers(record: RunRecord, history: Sequence[Mapping[str, float]]) -> Iterator[Section]:
    lines = curves.without_rates(curves.lines_of(history))
    names = sorted({**lines, **record.metrics}, key=curves.order)
    if not names:
        return
    shown, left = names[:_MOST_METRICS], len(names) - _MOST_METRICS
    rows = [(name, *_extremes(*lines.get(name, ([], [])), last=record.metrics.get(name))) for name in shown]
    content = [table(["metric", "first", "last", "lowest", "epoch", "highest", "epoch"], rows)]
    if left > 0:
        content.append(paragraph(f"and {left} more metrics."))
    if len(history) > 1:
        cut = f", of which these are the first and the last {_MOST_ROWS // 2}" if len(history) > _MOST_ROWS else ""
        columns = ["epoch", "step", *(name for name in shown[:_MOST_COLUMNS] if name in lines)]
        every = [[row.get(name) for name in columns] for row in _ends(history)]
        content.append(fold(f"all {len(history)} epochs{cut}", table(columns, every)))
    yield Section("Metrics", content)


def _ends(rows: Sequence[Any]) -> Sequence[Any]:
    return rows if len(rows) <= _MOST_ROWS else [*rows[: _MOST_ROWS // 2], *rows[-_MOST_ROWS // 2 :]]


def _extremes(epochs: Sequence[float], values: Sequence[float], last: float | None) -> tuple[float | None, ...]:
    """Return the first, the last, the lowest and the highest value, with the epochs of the latter two."""
    finite = [(value, epoch) for epoch, value in zip(epochs, values, strict=True) if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else ((None, None), (None, None))
    ends = (values[0], values[-1] if last is None else last) if values else (None, last)
    return (*ends, *low, *high)


# --- the rest ---------------------------------------------------------------------------------------------------------


def _checkpoints(found: Found, record: RunRecord) -> Iterator[Section]:
    roles: dict[str, list[str]] = {}
    for role, path in (("best", record.best_checkpoint), ("last", record.last_checkpoint)):
        if path is not None:
            roles.setdefault(str(Path(path).absolute()), []).append(role)
    rows = [_checkpoint(one, roles.pop(str(one.path.absolute()), []), found.where) for one in found.checkpoints]
    rows += [Row([", ".join(role), path, None, "not there"], "muted") for path, role in roles.items()]
    if rows:
        yield Section("Checkpoints", [table(["", "file", "size", "written"], rows, right=["size", "written"])])


def _checkpoint(one: CheckpointFile, roles: Sequence[str], folder: str) -> Row:
    path = one.path.absolute()
    path = path.relative_to(folder) if folder and path.is_relative_to(folder) else path
    return Row([", ".join(roles), str(path), size(one.size), _when(one.written)], "best" if "best" in roles else "")


def _profile(record: RunRecord) -> Iterator[Section]:
    if record.profile:
        whole = record.profile.get("total", {}).get("seconds")
        rows = [_part(name, one, whole) for name, one in record.profile.items() if name != "total"]
        times = ["calls", "mean", "total", "share"]
        note = 'profiler="simple", measured on the host'
        yield Section("Where the time went", [table(["part", *times], rows, right=times)], note)


def _part(name: str, values: Mapping[str, float], whole: float | None) -> list[Any]:
    calls, seconds = values.get("calls", 0), values.get("seconds", math.nan)
    mean = duration(seconds / calls) if calls else None
    return [name, calls, mean, duration(seconds), f"{seconds / whole:.1%}" if whole else None]


def _ran(found: Found, record: RunRecord) -> Iterator[Section]:
    config = without_secrets(record.config or found.config)
    texts = [("configuration", config), ("spec", without_secrets(record.spec))]
    content = [fold(name, code(_clipped(text)), is_open=text.count("\n") < 30) for name, text in texts if text.strip()]  # noqa: PLR2004
    if found.record is not None:
        facts = {
            "framework": record.framework,
            "seed": "not set" if record.seed is None else record.seed,
            **_commit(record),
        }
        facts |= {
            "folder": found.where or None,
            "started": _day(record.started) or None,
            "ended": record.ended and _day(record.ended),
        }
        content.insert(0, definitions(facts))
    if content:
        yield Section("What was run", content)
    if record.versions or record.hardware:
        yield Section("With what", [definitions({**record.versions, **record.hardware})])


def _commit(record: RunRecord) -> dict[str, Any]:
    git = record.git
    if git is None:
        return {"git commit": "not in a repository"}
    changed = git.get("changed_files", "")
    told = {"0": "", "1": ", with 1 changed file"}.get(changed, f", with {changed} changed files")
    return {"git commit": f"{git.get('commit', '')[:12]}{told}", "git branch": git.get("branch") or None}


def _warnings(record: RunRecord) -> Iterator[Section]:
    if record.warnings:
        rows = [(one["category"], _clipped(without_secrets(one["message"])), one["count"]) for one in record.warnings]
        yield Section("Warnings", [table(["kind", "message", "times"], rows)])


def _clipped(text: str) -> str:
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]}\n... and {number(left)} more characters"
