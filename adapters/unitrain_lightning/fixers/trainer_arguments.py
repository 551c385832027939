"""Arguments that newer releases of Lightning's Trainer renamed or removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import libcst as cst

from unitrain.compat.old_arguments import REMOVED, RENAMED, Removed
from unitrain.migrate.arguments import UNKNOWN, Argument, arguments, dropped, keyword
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain_lightning.fixers.names import TRAINER, calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

DEVICES = Rule("lightning-devices", "gpus=, tpu_cores= and num_processes= become accelerator= and devices=")
STRATEGY = Rule("lightning-strategy", 'accelerator="ddp" and distributed_backend= become strategy=')
DISPLAY = Rule("lightning-display", "display arguments become enable_progress_bar= and enable_model_summary=")
CHECKPOINTING = Rule("lightning-checkpointing", "checkpoint_callback= and early_stop_callback= move to callbacks=")
PRECISION = Rule("lightning-precision", 'precision=16, use_amp= and amp_backend= become precision="16-mixed"')
OLD = Rule("lightning-old-arguments", "max_nb_epochs= and other names of the first releases are updated")
GONE = Rule("lightning-removed-arguments", "arguments that 2.0 removed are deleted or replaced")
TUNER = Rule("lightning-tuner", "auto_lr_find= and auto_scale_batch_size= became the Tuner; to fix by hand")


class Change(NamedTuple):
    """What becomes of an argument.

    Attributes:
        reason: Why.
        new: The arguments that take its place; none if it goes.
        callbacks: Objects that are added to callbacks=.
        by_hand: Instructions for the user, if it cannot be rewritten.
    """

    reason: str
    new: tuple[str, ...] = ()
    callbacks: tuple[str, ...] = ()
    by_hand: str = ""


Upgrade: TypeAlias = Callable[[Argument], "Change | None"]


def _to(name: str, reason: str = "it was renamed") -> Upgrade:
    return lambda given: Change(reason, (f"{name}={given.text}",))


def _removed(row: Removed) -> Upgrade:
    def upgrade(given: Argument) -> Change:
        if row.loses_nothing(given.value) or not row.there:
            return Change(row.reason)
        return Change(row.reason, by_hand=row.there)

    return upgrade


def _values(reason: str, by_hand: str, **by_repr: tuple[str, ...]) -> Upgrade:
    def upgrade(given: Argument) -> Change | None:
        new = by_repr.get(str(given.value))
        return Change(reason, by_hand=by_hand) if given.value is UNKNOWN or new is None else Change(reason, new)

    return upgrade


# --- devices ----------------------------------------------------------------------------------------------------------


def _gpus(given: Argument) -> Change:
    reason = "gpus= was removed in 2.0"
    node = given.node.value
    if given.value is not UNKNOWN:
        if given.value in (0, None, False, "", [], "0"):
            return Change(reason, ('accelerator="cpu"',))
        return Change(reason, ('accelerator="gpu"', f"devices={given.text}"))
    if isinstance(node, cst.IfExp) and _literal(node.body) and _literal(node.orelse) in ("0", "None"):
        test = cst.Module([]).code_for_node(node.test)
        body = cst.Module([]).code_for_node(node.body)
        devices = f"{body} if {test} else 1" if body != "1" else "1"
        return Change(reason, (f'accelerator="gpu" if {test} else "cpu"', f"devices={devices}"))
    return Change(reason, (f'accelerator="gpu" if {_tight(given)} else "cpu"', f"devices={_tight(given)} or 1"))


def _literal(node: cst.BaseExpression) -> str:
    plain = isinstance(node, (cst.Integer, cst.SimpleString, cst.List, cst.UnaryOperation))
    return cst.Module([]).code_for_node(node) if plain or (isinstance(node, cst.Name) and node.value == "None") else ""


def _tight(given: Argument) -> str:
    simple = isinstance(given.node.value, (cst.Name, cst.Attribute, cst.Call, cst.Subscript))
    return given.text if simple else f"({given.text})"


def _on(accelerator: str) -> Upgrade:
    def upgrade(given: Argument) -> Change:
        reason = f"{given.keyword}= was removed in 2.0"
        if given.value in (0, None, False):
            return Change(reason)
        return Change(reason, (f'accelerator="{accelerator}"', f"devices={given.text}"))

    return upgrade


# --- strategies -------------------------------------------------------------------------------------------------------

_DP_BY_HAND = 'strategy="ddp", with a batch size for one device'
_STRATEGIES: dict[Any, Change] = {
    "ddp": Change("the strategy has an argument of its own", ('strategy="ddp"',)),
    "ddp_spawn": Change("the strategy has an argument of its own", ('strategy="ddp_spawn"',)),
    "ddp_cpu": Change("the strategy has an argument of its own", ('accelerator="cpu"', 'strategy="ddp"')),
    "dp": Change("dp was removed in 2.0", by_hand=_DP_BY_HAND),
    "ddp2": Change("ddp2 was removed in 2.0", by_hand='strategy="ddp"'),
    "horovod": Change("horovod was removed in 2.0", by_hand='strategy="ddp"'),
}


def _accelerator(given: Argument) -> Change | None:
    return _STRATEGIES.get(given.value) if isinstance(given.value, str) else None


def _backend(given: Argument) -> Change:
    if given.value is None:
        return Change("distributed_backend= was removed")
    if isinstance(given.value, str) and given.value in _STRATEGIES:
        return _STRATEGIES[given.value]
    return Change("distributed_backend= was removed", by_hand=f"strategy={given.text}")


def _strategy(given: Argument) -> Change | None:
    found = _accelerator(given)
    return found if found is not None and found.by_hand else None


# --- the rest ---------------------------------------------------------------------------------------------------------


def _refresh_rate(given: Argument) -> Change:
    reason = "it was removed in 2.0 and only changed the display"
    return Change(reason, ("enable_progress_bar=False",)) if given.value == 0 else Change(reason)


def _summary(given: Argument) -> Change:
    return Change("weights_summary= was removed in 2.0", (f"enable_model_summary={given.value is not None}",))


def _checkpoint(given: Argument) -> Change:
    reason = "checkpoint_callback= was removed in 2.0"
    if given.value in (True, False):
        return Change(reason, (f"enable_checkpointing={given.text}",))
    return Change(reason) if given.value is None else Change(reason, callbacks=(given.text,))


def _early_stop(given: Argument) -> Change:
    reason = "early_stop_callback= was removed in 1.0"
    if given.value in (None, False):
        return Change(reason)
    if given.value is True:
        return Change(reason, by_hand='callbacks=[EarlyStopping("val_loss")]')
    return Change(reason, callbacks=(given.text,))


_PRECISIONS = {16: "16-mixed", 32: "32-true", 64: "64-true", "16": "16-mixed", "32": "32-true", "bf16": "bf16-mixed"}


def _precision(given: Argument) -> Change | None:
    known = _PRECISIONS.get(given.value) if isinstance(given.value, (int, str)) else None
    return None if known is None else Change("precision names changed in 2.0", (f'precision="{known}"',))


_AMP = "it was removed in 2.0"
_RULES = {rule.name: rule for rule in (DEVICES, STRATEGY, DISPLAY, CHECKPOINTING, PRECISION, OLD, GONE, TUNER)}
_ROWS: dict[str, tuple[Rule, Upgrade]] = {
    **{old: (OLD, _to(new)) for old, new in RENAMED.items()},
    **{old: (_RULES[f"lightning-{row.group}"], _removed(row)) for old, row in REMOVED.items()},
    "show_progress_bar": (DISPLAY, _to("enable_progress_bar")),
    "replace_sampler_ddp": (OLD, _to("use_distributed_sampler")),
    "gpus": (DEVICES, _gpus),
    "tpu_cores": (DEVICES, _on("tpu")),
    "ipus": (DEVICES, _on("ipu")),
    "num_processes": (DEVICES, _on("cpu")),
    "accelerator": (STRATEGY, _accelerator),
    "distributed_backend": (STRATEGY, _backend),
    "strategy": (STRATEGY, _strategy),
    "progress_bar_refresh_rate": (DISPLAY, _refresh_rate),
    "weights_summary": (DISPLAY, _summary),
    "checkpoint_callback": (CHECKPOINTING, _checkpoint),
    "early_stop_callback": (CHECKPOINTING, _early_stop),
    "precision": (PRECISION, _precision),
    "use_amp": (
        PRECISION,
        _values(_AMP, 'precision="16-mixed"', **{"True": ('precision="16-mixed"',), "False": ()}),
    ),
    "terminate_on_nan": (
        GONE,
        _values(
            "it became detect_anomaly= in 1.7",
            "detect_anomaly=",
            **{"True": ("detect_anomaly=True",), "False": (), "None": ()},
        ),
    ),
    "reload_dataloaders_every_epoch": (
        GONE,
        _values(
            "it counts epochs since 1.6",
            "reload_dataloaders_every_n_epochs=",
            **{"True": ("reload_dataloaders_every_n_epochs=1",), "False": ()},
        ),
    ),
}


OLD_NAMES = frozenset(_ROWS) - {"accelerator", "strategy", "precision"}
"""Arguments that the Trainer no longer takes."""


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old arguments of every Trainer."""
    del goal
    for call in calls(source, TRAINER):
        brought: set[str] = set()
        for given in arguments(source, call):
            rule, upgrade = _ROWS.get(given.keyword, (GONE, lambda _: None))
            change = upgrade(given)
            if change is None or (len(change.new) == 1 and change.new[0] == f"{given.keyword}={given.text}"):
                continue
            names = _brought(change)
            if not names & brought:  # else the next round sees what this one writes
                brought |= names
                yield _finding(source, call, given, rule, change)


def _brought(change: Change) -> set[str]:
    """Return the names of the arguments that a change writes."""
    if change.by_hand:
        return set()
    return {one.partition("=")[0] for one in change.new} | ({"callbacks"} if change.callbacks else set())


def _finding(source: Source, call: cst.Call, given: Argument, rule: Rule, change: Change) -> Finding:
    start, reason = source.start(given.node), f"{given.keyword}=: {change.reason}"
    written = {source.code(one) for one in call.args}
    change = change._replace(new=tuple(one for one in change.new if one not in written))
    taken = [one for one in change.new if _is_given(source, call, given, one)]
    if change.by_hand or taken:
        return person(rule.name, start, reason, change.by_hand or f"{taken[0]}, which is also given")
    new = list(change.new)
    edits: list[Edit] = []
    if change.callbacks:
        more = _more_callbacks(source, call, change.callbacks)
        if more is None:
            return person(rule.name, start, reason, f"add it to callbacks=: {change.callbacks[0]}")
        edits += more
        new += [] if more else [f"callbacks=[{', '.join(change.callbacks)}]"]
    whole = Edit(start, source.end(given.node), ", ".join(new))
    edits.append(whole if new else dropped(source, call, given))
    fix = ", ".join(new) or ("added to callbacks=" if change.callbacks else "left out")
    return Finding(rule.name, start, reason, fix, tuple(edits), needed=rule is not PRECISION)


def _is_given(source: Source, call: cst.Call, given: Argument, new: str) -> bool:
    name = new.partition("=")[0]
    return name != given.keyword and keyword(source, call, name) is not None


def _more_callbacks(source: Source, call: cst.Call, more: tuple[str, ...]) -> list[Edit] | None:
    """Return the edits that add to ``callbacks=[...]``: none if there is no such argument, None if it is no list."""
    given = keyword(source, call, "callbacks")
    if given is None:
        return []
    node = given.node.value
    if not isinstance(node, cst.List):
        return None
    if not node.elements:
        place = source.end(node) - 1
        return [Edit(place, place, ", ".join(more))]
    place = source.end(node.elements[-1])
    return [Edit(place, place, "".join(f", {one}" for one in more))]


FIXER = Fixer((DEVICES, STRATEGY, DISPLAY, CHECKPOINTING, PRECISION, OLD, GONE, TUNER), find)
