"""What a backend other than Ignite refuses of an Ignite script, told from its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments
from unitrain.migrate.findings import Finding, Fixer, Goal, Rule, person
from unitrain_ignite.fixers.runs import engine_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

PACKAGES = ("ignite",)
HOME = "ignite"
PROCESSES = Rule("check-processes", "several processes started by Ignite")
INTERRUPT = Rule("check-interrupt", "an Engine that is interrupted and resumed later")

_SPAWNING = {"ignite.distributed.Parallel", "ignite.distributed.spawn", "ignite.distributed.launcher.Parallel"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find what the backend ``goal.check`` refuses."""
    if goal.check == HOME or not source.imports(HOME):
        return
    for call in source.all(cst.Call):
        if source.name(call.func) in _SPAWNING and _has_backend(source, call):
            reason = f"{goal.check!r} runs an Ignite program in a single process"
            yield person(PROCESSES.name, source.start(call), reason, "run it without a backend, or framework='ignite'")
    for node in engine_attributes(source):
        if node.attr.value == "interrupt":
            reason = f"an interrupted run can only be resumed on {goal.check!r} itself"
            fix = f'resume with UnifiedTrainer("{goal.check}").fit(from_engine(engine), loader)'
            yield person(INTERRUPT.name, source.start(node), reason, fix)


def _has_backend(source: Source, call: cst.Call) -> bool:
    """Return whether a call asks for processes: any backend but None."""
    given = [one for one in arguments(source, call) if one.keyword in ("backend", "") and not one.star]
    return bool(given) and given[0].value is not None


FIXER = Fixer((PROCESSES, INTERRUPT), find)
