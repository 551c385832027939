"""Arguments that newer releases renamed or removed in ModelCheckpoint and EarlyStopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, Argument, arguments, dropped, keyword, literal
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.origins import unpacked
from unitrain_lightning.fixers.names import calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("lightning-callback-arguments", "filepath=, period=, prefix= and mode='auto' of callbacks are updated")

_CHECKPOINT = {"callbacks.ModelCheckpoint", "callbacks.model_checkpoint.ModelCheckpoint"}
_STOPPING = {"callbacks.EarlyStopping", "callbacks.early_stopping.EarlyStopping"}
_FILENAME = '"{epoch}"'
_BY_HAND = "dirpath= for the directory and filename= for the name in it"

Upgrade: TypeAlias = Callable[["Source", cst.Call, Argument], "tuple[str, ...] | None"]
"""What an argument becomes: nothing, other arguments, or None if it must be fixed by hand."""


def _to(name: str) -> Upgrade:
    return lambda _source, _call, given: (f"{name}={given.text}",)


def _prefix(source: Source, call: cst.Call, given: Argument) -> tuple[str, ...] | None:
    del source, call
    return () if given.value in ("", None) else None


def _filepath(source: Source, call: cst.Call, given: Argument) -> tuple[str, ...] | None:
    """Split a path into a folder and a name, where it can be seen which is which."""
    if given.value is None:
        return ()
    if any(keyword(source, call, name) is not None for name in ("dirpath", "filename")):
        return None
    if isinstance(given.value, str):
        folder, _, name = given.value.rpartition("/")
        if not name:
            return (f"dirpath={given.text}", f"filename={_FILENAME}")
        return (f'dirpath="{folder or "."}"', f'filename="{name}"') if "{" in name else None
    node = given.node.value
    if not isinstance(node, cst.Call) or source.name(node.func) not in ("os.path.join", "posixpath.join"):
        return None
    *folders, last = [source.code(one) for one in node.args]
    if "{" not in last or "/" in last or not folders:
        return None
    folder = folders[0] if len(folders) == 1 else f"{source.code(node.func)}({', '.join(folders)})"
    return (f"dirpath={folder}", f"filename={last}")


def _direction(is_better_if_more: Callable[[str], bool]) -> Upgrade:
    def upgrade(source: Source, call: cst.Call, given: Argument) -> tuple[str, ...] | None:
        if given.value != "auto":
            return (f"mode={given.text}",)
        monitor = keyword(source, call, "monitor")
        first = next((one for one in arguments(source, call) if not one.keyword and not one.star), None)
        told = monitor or first
        if told is None or told.value is UNKNOWN or not isinstance(told.value, str):
            return None
        return (f'mode="{"max" if is_better_if_more(told.value) else "min"}"',)

    return upgrade


_ROWS: tuple[tuple[set[str], str, Upgrade, str, str], ...] = (
    # the callbacks, the argument, what it becomes, the reason, and what a person is to do
    (_CHECKPOINT, "filepath", _filepath, "filepath= was removed in 1.3", _BY_HAND),
    (_CHECKPOINT, "prefix", _prefix, "prefix= was removed in 1.3", "put it before filename="),
    (_CHECKPOINT, "period", _to("every_n_epochs"), "period= was removed in 1.7", "every_n_epochs="),
    (_CHECKPOINT, "every_n_val_epochs", _to("every_n_epochs"), "it was renamed in 1.5", "every_n_epochs="),
    (
        _CHECKPOINT,
        "mode",
        _direction(lambda monitor: "acc" in monitor or monitor.startswith("fmeasure")),
        'mode="auto" was removed in 1.3',
        'mode="min" or mode="max"',
    ),
    (
        _STOPPING,
        "mode",
        _direction(lambda monitor: monitor == "acc"),
        'mode="auto" was removed in 1.3',
        'mode="min" or mode="max"',
    ),
)


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old arguments of the callbacks that a file makes."""
    del goal
    for names, argument, upgrade, reason, by_hand in _ROWS:
        for call in calls(source, names):
            given = keyword(source, call, argument)
            if given is not None:
                yield from _finding(source, call, given, upgrade(source, call, given), (reason, by_hand))
            for name, value in unpacked(source, call):
                if name == argument and (name != "mode" or literal(source.code(value)) == "auto"):
                    yield person(RULE.name, source.start(value), reason, by_hand)
    for call in calls(source, _STOPPING):
        if not call.args:
            reason = "EarlyStopping() monitors nothing by default since 1.5"
            yield person(RULE.name, source.start(call), reason, 'monitor="val_loss", or another logged metric')


def _finding(
    source: Source, call: cst.Call, given: Argument, new: tuple[str, ...] | None, told: tuple[str, str]
) -> Iterator[Finding]:
    start, (reason, by_hand) = source.start(given.node), told
    if new is None:
        yield person(RULE.name, start, reason, by_hand)
    elif new != (f"{given.keyword}={given.text}",):
        edit = Edit(start, source.end(given.node), ", ".join(new)) if new else dropped(source, call, given)
        yield Finding(RULE.name, start, reason, ", ".join(new) or "left out", (edit,), needed=True)


FIXER = Fixer((RULE,), find)
