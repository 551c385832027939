"""What a backend other than Ignite refuses of an Ignite script, told from its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, arguments
from unitrain.migrate.findings import Finding, Fixer, Goal, Rule, Severity, person
from unitrain_ignite.fixers.runs import engine_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

PACKAGES = ("ignite",)
HOME = "ignite"
PROCESSES = Rule("check-processes", "several processes started by Ignite", Severity.PERSON)
INTERRUPT = Rule("check-interrupt", "an Engine that is interrupted and resumed later", Severity.PERSON)

_SPAWNING = {"ignite.distributed.Parallel", "ignite.distributed.spawn", "ignite.distributed.launcher.Parallel"}
_FIX = "run it without a backend, or framework='ignite'"
_STARTING = {"torch.multiprocessing.spawn", "torch.multiprocessing.start_processes"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find what the backend ``goal.check`` refuses."""
    if goal.check == HOME or not source.imports(HOME):
        return
    for call in source.all(cst.Call):
        if source.name(call.func) in _SPAWNING:
            yield from _processes(source, goal, call)
        elif source.name(call.func) in _STARTING:
            reason = f"if it runs an engine: {_alone(goal)}"
            yield Finding(PROCESSES.name, source.start(call), reason, _FIX, severity=Severity.NOTE)
    for node in engine_attributes(source):
        if node.attr.value == "interrupt":
            reason = f"an interrupted run can only be resumed on {goal.check!r} itself"
            fix = f'resume with UnifiedTrainer("{goal.check}").fit(from_engine(engine), loader)'
            yield person(INTERRUPT.name, source.start(node), reason, fix)


def _processes(source: Source, goal: Goal, call: cst.Call) -> Iterator[Finding]:
    """Find a call that asks for processes: any backend but None; one that is not known here may be None."""
    given = next((one for one in arguments(source, call) if one.keyword in ("backend", "") and not one.star), None)
    reason, start = _alone(goal), source.start(call)
    if given is None or given.value is None:
        return
    if given.value is UNKNOWN:
        maybe = f"{given.text} is None or a backend; {reason}"
        yield Finding(PROCESSES.name, start, maybe, _FIX, severity=Severity.NOTE)
    else:
        yield person(PROCESSES.name, start, reason, _FIX)


def _alone(goal: Goal) -> str:
    return f"{goal.check!r} runs an Ignite program in a single process"


FIXER = Fixer((PROCESSES, INTERRUPT), find)
