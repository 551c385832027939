"""A study as a file for other programs: csv, json, or a page for a browser."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.utilities import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unitrain.tuning.result import TuneResult


def require_exportable(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be exported to.

    Raises:
        ConfigError: If its extension is not supported, or it exists and must not be replaced.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(
            f"--export {path}: the file extension sets the format; {path.suffix!r} is not supported.",
            hint=f"{path.stem or 'study'}.csv, .json or .html",
        )
    files.refuse_existing(path, ConfigError, overwrite=overwrite, hint="--overwrite replaces it.")


def export(result: TuneResult, path: Path) -> None:
    """Write a study to a file atomically.

    Raises:
        ConfigError: If the file cannot be written.
    """
    text = _FORMATS[path.suffix.lower()](result)
    with files.failing_as(ConfigError, path), files.written(path) as file:
        file.write(text.encode())


def rows(result: TuneResult) -> list[dict[str, Any]]:
    """Return what is known of each trial."""
    return [
        {
            "number": one.number,
            "state": one.state.name.lower(),
            "values": dict(zip(result.plan.monitor, one.values or (), strict=False)),
            "params": dict(one.params),
            "seconds": None if one.duration is None else one.duration.total_seconds(),
            "reported": {str(step): value for step, value in sorted(one.intermediate_values.items())},
            "fail_reason": one.system_attrs.get("fail_reason"),
        }
        for one in result.trials
    ]


def _csv(result: TuneResult) -> str:
    trials = rows(result)
    names = sorted({name for one in trials for name in one["params"]})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", *result.plan.monitor, *names, "seconds"])
    for one in trials:
        values = [one["values"].get(name) for name in result.plan.monitor]
        table.writerow([one["number"], one["state"], *values, *map(one["params"].get, names), one["seconds"]])
    return text.getvalue()


def _json(result: TuneResult) -> str:
    plan = result.plan
    content = {
        "study": plan.study_name,
        "objectives": dict(zip(plan.monitor, plan.directions, strict=True)),
        **{name: getattr(plan, name) for name in ("value", "seed", "parallel")},
        "trials": rows(result),
    }
    return json.dumps(_in_json(content), indent=1, allow_nan=False, default=str) + "\n"


def _in_json(value: Any) -> Any:
    """Return a value with texts for the numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _in_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_in_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _html(result: TuneResult) -> str:
    from unitrain.tuning.report.page import study_page  # noqa: PLC0415 - only for a page

    return study_page(result)


_FORMATS: dict[str, Callable[[TuneResult], str]] = {".csv": _csv, ".json": _json, ".html": _html}
