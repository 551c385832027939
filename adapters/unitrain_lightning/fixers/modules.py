"""What modules may not do any more: set ``self.hparams``, and give old arguments to ``self.log``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments, dropped
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain_lightning.fixers.names import is_data, is_module, method

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

HPARAMS = Rule("lightning-hparams", "self.hparams = hparams becomes self.save_hyperparameters(hparams)")
LOG = Rule("lightning-log", "arguments that self.log no longer takes are dropped")

_LOG_GONE = {"tbptt_reduce_fx", "tbptt_pad_token"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find them in the classes of the file."""
    del goal
    for owner in source.all(cst.ClassDef):
        module = is_module(source, owner)
        if module or is_data(source, owner):
            yield from _hparams(source, owner)
        if module and method(owner, "log") is None:
            yield from _logged(source, owner)


def _hparams(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    for one in source.all(cst.Assign, owner):
        if len(one.targets) != 1 or source.code(one.targets[0].target) != "self.hparams":
            continue
        if method(owner, "hparams") is not None:
            continue  # a property of its own, which may take it
        value = source.code(one.value)
        new = f"self.save_hyperparameters({value})"
        reason = "hparams cannot be set since 1.3"
        edit = Edit(source.start(one), source.end(one), new)
        yield Finding(HPARAMS.name, source.start(one), reason, new, (edit,), needed=True)


def _logged(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    for call in source.all(cst.Call, owner):
        if source.code(call.func) not in ("self.log", "self.log_dict"):
            continue
        for given in arguments(source, call):
            reason = f"self.log no longer takes {given.keyword}="
            if given.keyword in _LOG_GONE or (given.keyword == "sync_dist_op" and given.value in (None, "mean")):
                edits = (dropped(source, call, given),)
                yield Finding(LOG.name, source.start(given.node), reason, "left out", edits, needed=True)
            elif given.keyword == "sync_dist_op":
                yield person(LOG.name, source.start(given.node), reason, "reduce_fx=")


FIXER = Fixer((HPARAMS, LOG), find)
