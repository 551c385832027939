"""Arguments that Ignite's handlers no longer take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from unitrain.migrate.arguments import Argument, arguments, dropped
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.origins import unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

KEYWORDS = Rule("ignite-keywords", "arguments that Ignite's handlers no longer take: save_interval, another_engine")

_STEP = "global_step_from_engine"


class _Old(NamedTuple):
    """An argument that is gone.

    Attributes:
        since: The release that removed it.
        same: Values that mean what there is without it.
        fix: Instructions for other values.
    """

    since: str
    same: tuple[object, ...]
    fix: str


_DROPPED = {
    ("ModelCheckpoint", "save_interval"): _Old(
        "0.4", (1, None), "pass every=n to the event: add_event_handler(Events.EPOCH_COMPLETED(every=n), ...)"
    ),
    ("ModelCheckpoint", "save_as_state_dict"): _Old(
        "0.4", (True,), "a module is saved as its state_dict; torch.save(model, path) in a handler writes the whole"
    ),
}
_LOGS = {"OutputHandler", "OptimizerParamsHandler", "WeightsScalarHandler", "WeightsHistHandler"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the arguments that are gone."""
    del goal
    for call in source.all(cst.Call):
        made = _made(source, call)
        for given in arguments(source, call) if made else ():
            if (made, given.keyword) in _DROPPED:
                yield _drop(source, call, given, _DROPPED[made, given.keyword])
            elif made in _LOGS and given.keyword == "another_engine":
                yield _renamed(source, given)
        yield from _unpacked(source, call, made) if made else ()
        if made == "ModelCheckpoint":
            yield from _by_position(source, call)


def _unpacked(source: Source, call: cst.Call, made: str) -> Iterator[Finding]:
    """Find the same arguments in a ``**mapping``."""
    for name, value in unpacked(source, call):
        old = _DROPPED.get((made, name))
        if old is not None:
            yield person(KEYWORDS.name, source.start(value), f"{name}= was removed in {old.since}", old.fix)
        elif made in _LOGS and name == "another_engine":
            fix = f"global_step_transform={_STEP}({source.code(value)})"
            yield person(KEYWORDS.name, source.start(value), "another_engine= was removed in 0.4", fix)


def _made(source: Source, call: cst.Call) -> str:
    """Return the name of what Ignite a call makes, also one that came by a star; empty if it is none."""
    name = source.name(call.func)
    if name:
        return name.rpartition(".")[2] if name.startswith("ignite.") else ""
    written = call.func.value if isinstance(call.func, cst.Name) else ""
    return written if any(source.starred(("ignite",))) else ""


def _drop(source: Source, call: cst.Call, given: Argument, old: _Old) -> Finding:
    start, reason = source.start(given.node), f"{given.keyword}= was removed in {old.since}"
    if not any(given.value is one for one in old.same):
        return person(KEYWORDS.name, start, reason, old.fix)
    return Finding(KEYWORDS.name, start, reason, "left out", (dropped(source, call, given),), needed=True)


def _renamed(source: Source, given: Argument) -> Finding:
    start = source.start(given.node)
    text = f"global_step_transform={_STEP}({given.text})"
    edits = (Edit(start, source.end(given.node), text),)
    reason = "another_engine= was removed in 0.4"
    return Finding(KEYWORDS.name, start, reason, text, edits, (f"ignite.handlers:{_STEP}",), needed=True)


def _by_position(source: Source, call: cst.Call) -> Iterator[Finding]:
    """Find a number in the position of ``save_interval``, where the score function is now."""
    given = arguments(source, call)
    if len(given) > len(("dirname", "filename_prefix")) and not any(one.keyword or one.star for one in given[:3]):
        third = given[2]
        if third.value is None or isinstance(third.value, int):
            fix = "pass the other arguments by name: score_function=, n_saved=; and every=n to the event"
            yield person(KEYWORDS.name, source.start(third.node), "the third argument is no longer save_interval", fix)


FIXER = Fixer((KEYWORDS,), find)
