"""The report of a result that is still in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitrain.errors import ConfigError
from unitrain.reports.run import surroundings
from unitrain.reports.run.facts import RunFacts, config_text, facts_of, spec_text
from unitrain.reports.run.folder import Found, checkpoint
from unitrain.reports.run.page import run_page
from unitrain.reports.run.record import Outcome, RunRecord, of_outcome
from unitrain.utilities import files


def write_report(result: Outcome, path: str | Path, *, overwrite: bool) -> None:
    """Write the report of a result.

    Raises:
        ConfigError: If the file exists and must not be replaced, or cannot be written.
    """
    write_page(lambda: run_page(found_of(result)), path, overwrite=overwrite)


def write_page(make: Any, path: str | Path, *, overwrite: bool) -> Path:
    """Write a page, which is made once it is clear that the file may be written.

    Raises:
        ConfigError: If the file exists and must not be replaced, or cannot be written.
    """
    target = files.user_file(path, "path", ConfigError)
    files.refuse_existing(
        target,
        ConfigError,
        overwrite=overwrite,
        hint="another name; or overwrite=True, --overwrite, for a file.",
    )
    content = make().encode("utf-8", "backslashreplace")
    with files.failing_as(ConfigError, target), files.written(target, new=not overwrite) as file:
        file.write(content)
    return target


def found_of(result: Outcome) -> Found:
    """Return what there is of a run: its result, and what it remembers."""
    facts = facts_of(result)
    known = {} if facts is None else _known(facts)
    record = RunRecord(
        framework=result.framework,
        versions=surroundings.versions(),
        hardware=surroundings.hardware()
        | ({} if facts is None else surroundings.device(facts.device, facts.processes)),
        git=surroundings.git(),
        **of_outcome(result),
        **known,
    )
    kept = dict.fromkeys(one for one in (result.best_checkpoint, result.last_checkpoint) if one is not None)
    there = tuple(one for one in map(checkpoint, map(Path, kept)) if one is not None)
    return Found(f"Fit on {result.framework}", record=record, checkpoints=there)


def _known(facts: RunFacts) -> dict[str, Any]:
    return {
        "config": config_text(facts.config),
        "spec": spec_text(facts.spec),
        "seed": facts.seed,
        "seconds": facts.seconds,
    }
