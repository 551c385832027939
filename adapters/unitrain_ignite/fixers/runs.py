"""``trainer.run(loader, max_epochs=N)`` becomes ``UnifiedTrainer(...).fit(from_engine(trainer), loader)``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import UNKNOWN, Argument, Layout, arguments, dropped
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain.migrate.order import evaluated_before
from unitrain.migrate.values import is_scalar, values
from unitrain.migrate.variables import Holder, held_by, is_statement, uses, value_of
from unitrain_ignite.fixers.attached import in_handler, is_handler, is_property, with_handlers
from unitrain_ignite.fixers.roles import NAMES, Role, Roles, is_engine, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

FRAMEWORK = "ignite"
RUN = Rule(
    "ignite-run", 'trainer.run(...) becomes UnifiedTrainer(framework="ignite", ...).fit(from_engine(trainer), ...)'
)
ROLE = Rule("ignite-role", "an Engine whose role is unclear from the source and needs a comment", Severity.PERSON)
SEED = Rule("ignite-seed", "run(seed=) was removed: torch.manual_seed before the run")

_PARAMETERS = ("data", "max_epochs", "max_iters", "epoch_length")
_ENGINE_RUN = {"data", "max_epochs", "max_iters", "epoch_length", "seed"}
_SAY = "add a comment at the end of the line: # unitrain: trainer, or # unitrain: evaluator"
_BY_HAND = 'UnifiedTrainer(framework="{}", max_epochs=...).fit(from_engine(engine), data) by hand'
_EPOCHS = 'UnifiedTrainer(framework="{}", max_epochs=...) with an int of at least 1; leave other runs as they are'
_MEANT = frozenset({"max_epochs", "max_iters", "epoch_length"})


def find_seeds(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find ``run(seed=)``."""
    del goal
    for call, made in _engine_runs(source):
        for given in arguments(source, call):
            if given.keyword == "seed" and made:
                yield _seeded(source, call, given)
            elif given.keyword == "seed":
                reason = "Ignite's run(seed=) was removed in 0.4, but this engine may have a run of its own"
                yield person(SEED.name, source.start(given.node), reason, "torch.manual_seed before the run")


def _seeded(source: Source, call: cst.Call, given: Argument) -> Finding:
    start, reason = source.start(given.node), "run(seed=) was removed in 0.4"
    drop = dropped(source, call, given)
    if given.value is None:
        return Finding(SEED.name, start, reason, "left out", (drop,), needed=True)
    line = _line(source, call)
    if line is None or any(one is None for one in values(source, given.node.value)):
        told = reason if line is None else f"{reason}, and {given.text} may be None"
        return person(SEED.name, start, told, f"torch.manual_seed({given.text}) before the run")
    place = source.start(line)
    seed = Edit(place, place, f"torch.manual_seed({given.text})\n{source.indent(place)}")
    if source.imports("torch") and "torch" in (source.scope(source.module) or ()):
        return Finding(SEED.name, start, reason, f"torch.manual_seed({given.text})", (drop, seed), needed=True)
    seed = Edit(place, place, f"manual_seed({given.text})\n{source.indent(place)}")
    named = ("torch:manual_seed",)
    return Finding(SEED.name, start, reason, f"manual_seed({given.text})", (drop, seed), named, needed=True)


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the runs of trainers."""
    roles = Roles(source)
    for one in source.starred((FRAMEWORK,)):
        if any(source.code(call.func) in NAMES and not source.name(call.func) for call in source.all(cst.Call)):
            yield person(ROLE.name, source.start(one), "an Engine that may be one of *", "import it by its name")
    for call, made in _engine_runs(source):
        known = {roles.of(one) for one in made}
        role = said(source, call) or (known.pop() if len(known) == 1 else Role.UNKNOWN)
        if role is Role.TRAINER:
            yield _run(source, goal, call)
        elif role is Role.UNKNOWN:
            reason = "the source does not show whether this Engine trains or evaluates"
            yield person(ROLE.name, source.start(call), reason, _SAY)


# --- which calls ------------------------------------------------------------------------------------------------------


def _engine_runs(source: Source) -> Iterator[tuple[cst.Call, list[cst.Call]]]:
    """Yield the calls of ``run`` on an Engine, and the calls that may have made it; none if they are not seen."""
    followed = _Followed(source)
    for call in source.all(cst.Call):
        if is_engine(source, call):
            followed.value(call, call)
    handled = with_handlers(source)
    for call in source.all(cst.Call):
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "run":
            continue
        made = followed.made.get(id(call.func.value), [])
        attached = source.code(call.func.value) in handled and not in_handler(source, call)
        if made or attached or _looks_like_one(source, call):
            yield call, made


def engine_attributes(source: Source) -> Iterator[cst.Attribute]:
    """Yield what is read off the Engines that the file makes."""
    followed = _Followed(source)
    for call in source.all(cst.Call):
        if is_engine(source, call):
            followed.value(call, call)
    for node in source.all(cst.Attribute):
        if id(node.value) in followed.made:
            yield node


def _looks_like_one(source: Source, call: cst.Call) -> bool:
    """Return whether a run of something unknown is told to be an Engine's, by a comment or its arguments."""
    named = {one.keyword for one in arguments(source, call)}
    return said(source, call) is not None or bool(named & _MEANT and named <= _ENGINE_RUN | {""})


@dataclass
class _Followed:
    """Which expressions of a file are Engines: variables, parameters and returned values."""

    source: Source
    made: dict[int, list[cst.Call]] = field(default_factory=dict)

    def value(self, node: cst.CSTNode, origin: cst.Call) -> None:
        """Follow the value of an expression."""
        known = self.made.setdefault(id(node), [])
        if origin in known:
            return
        known.append(origin)
        variable = held_by(self.source, node)
        whole = value_of(self.source, node)
        around = self.source.parent(whole)
        if variable is not None:
            self._variable(variable, origin)
        elif isinstance(around, cst.Return):
            self._returned(around, None, origin)
        elif isinstance(around, cst.Element) and isinstance(self.source.parent(around), cst.Tuple):
            self._one_of(around, origin)
        elif isinstance(around, cst.Arg):
            self._given(around, origin)

    def _variable(self, variable: Holder, origin: cst.Call) -> None:
        for use in uses(self.source, variable):
            self.value(use, origin)

    def _one_of(self, element: cst.Element, origin: cst.Call) -> None:
        """Follow an element of a returned tuple."""
        around = self.source.parent(element)
        assert isinstance(around, cst.Tuple)  # noqa: S101 - for the type checker
        returned = self.source.parent(around)
        if isinstance(returned, cst.Return):
            self._returned(returned, list(around.elements).index(element), origin)

    def _returned(self, node: cst.Return, index: int | None, origin: cst.Call) -> None:
        function = self.source.around(node, cst.FunctionDef)
        name = "" if function is None else function.name.value
        if function is not None and is_property(self.source, function) and index is None:
            for read in self.source.all(cst.Attribute):
                if read.attr.value == name:
                    self.value(read, origin)
            return
        for call in self.source.all(cst.Call):
            called = call.func.attr.value if isinstance(call.func, cst.Attribute) else self.source.code(call.func)
            if called != name:
                continue
            if index is None:
                self.value(call, origin)
            else:
                self._unpacked(call, index, origin)

    def _unpacked(self, call: cst.Call, index: int, origin: cst.Call) -> None:
        assigned = self.source.parent(call)
        if not isinstance(assigned, cst.Assign) or not isinstance(assigned.targets[0].target, (cst.Tuple, cst.List)):
            return
        targets = assigned.targets[0].target.elements
        name = targets[index].value if index < len(targets) else None
        if isinstance(name, cst.Name):
            self._variable(Holder(name.value, scope=self.source.scope(name)), origin)

    def _attached(self, call: cst.CSTNode, origin: cst.Call) -> None:
        """Follow ``with handler.attach(engine) as same_engine``."""
        item = self.source.parent(call)
        if not isinstance(call, cst.Call) or not isinstance(item, cst.WithItem) or item.asname is None:
            return
        attach = isinstance(call.func, cst.Attribute) and call.func.attr.value == "attach"
        if attach and isinstance(item.asname.name, cst.Name):
            name = item.asname.name
            self._variable(Holder(name.value, scope=self.source.scope(name)), origin)

    def _given(self, argument: cst.Arg, origin: cst.Call) -> None:
        call = self.source.parent(argument)
        self._attached(call, origin)
        if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Name) or argument.star:
            return
        for function in self.source.functions(call.func.value):
            known = [*function.params.posonly_params, *function.params.params]
            index = list(call.args).index(argument)
            word = None if argument.keyword is None else argument.keyword.value
            named = [one for one in (*known, *function.params.kwonly_params) if one.name.value == word]
            chosen = named if word else known[index : index + 1]
            for parameter in chosen:
                scope = self.source.scope(function.body.body[0])
                self._variable(Holder(parameter.name.value, scope=scope), origin)


# --- one call ---------------------------------------------------------------------------------------------------------


def _run(source: Source, goal: Goal, call: cst.Call) -> Finding:
    start = source.start(call)
    assert isinstance(call.func, cst.Attribute)  # noqa: S101 - for the type checker
    reason = "Engine.run only exists in Ignite"
    given, refused = _named(source, call)
    if refused:
        return person(RUN.name, start, refused, _BY_HAND.format(goal.word(FRAMEWORK)))
    refused = _epochs_refused(source, given.get("max_epochs"))
    if refused:
        return person(RUN.name, start, refused, _EPOCHS.format(goal.word(FRAMEWORK)))
    engine = source.code(call.func.value)
    fit = _fit(source, goal, call, given, engine)
    names = ("UnifiedTrainer", "from_engine")
    fix = f'UnifiedTrainer(framework="{goal.word(FRAMEWORK)}").fit(from_engine({engine}))'
    if is_statement(source, call) or is_handler(source, call):
        edits: tuple[Edit, ...] = (Edit(start, source.end(call), fit),)
        return Finding(RUN.name, start, reason, fix, edits, names, needed=True)
    line = _line(source, call)
    if (
        line is None
        or not isinstance(call.func.value, (cst.Name, cst.Attribute))
        or evaluated_before(source, call, line)
    ):
        by_hand = _BY_HAND.format(goal.word(FRAMEWORK))
        return person(RUN.name, start, "the value of this run is used within an expression", by_hand)
    place = source.start(line)
    edits = (
        Edit(place, place, f"{fit}\n{source.indent(place)}"),
        Edit(start, source.end(call), f"{engine}.state"),
    )
    return Finding(RUN.name, start, reason, f"{fix}, then {engine}.state", edits, names, needed=True)


def _named(source: Source, call: cst.Call) -> tuple[dict[str, Argument], str]:
    """Return the arguments by name, and why they cannot be rewritten."""
    found: dict[str, Argument] = {}
    for one in arguments(source, call):
        # by position only the first two are what they were in every release
        name = one.keyword or (_PARAMETERS[one.index] if one.index <= 1 else "")
        if one.star or not name or name not in _PARAMETERS:
            return {}, "the arguments of this run are unknown" if one.star else f"run takes no {one.text} here"
        found[name] = one
    return found, ""


def _epochs_refused(source: Source, given: Argument | None) -> str:
    """Return why the epochs cannot be UnifiedTrainer's, which takes whole numbers, and -1 for a run without an end."""
    for one in [] if given is None else values(source, given.node.value):
        if is_scalar(one) or isinstance(one, float):
            return "max_epochs may be other than an int, which UnifiedTrainer refuses"
        if one is None or one is UNKNOWN or (type(one) is int and one > 0):
            continue
        return f"max_epochs may be {one!r}, which means something else to UnifiedTrainer"
    return ""


def _fit(source: Source, goal: Goal, call: cst.Call, given: dict[str, Argument], engine: str) -> str:
    """Return the text of the fit; it is laid out as the run was."""
    layout = Layout(source, call)
    limits = f", max_epochs={given['max_epochs'].text}" if "max_epochs" in given else ""
    own = "".join(f", {name}={given[name].text}" for name in ("epoch_length", "max_iters") if name in given)
    parts = [f"from_engine({engine}{own})"]
    if "data" in given:
        parts.append(("train_dataloaders=" if given["data"].keyword else "") + given["data"].text)
    trainer = f'UnifiedTrainer(framework="{goal.word(FRAMEWORK)}"{limits})'
    comments = [one for index in range(len(call.args)) for one in layout.comments(index)]
    if layout.exploded or comments:
        told = "".join(f"{layout.line}{one}" for one in comments)
        return f"{trainer}.fit({told}{layout.line}{(',' + layout.line).join(parts)},{layout.close})"
    return f"{trainer}.fit({', '.join(parts)})"


_UNORDERED = (
    cst.Lambda,
    cst.IfExp,
    cst.BooleanOperation,
    cst.CompFor,
    cst.Await,
    cst.Yield,
    cst.NamedExpr,
)
"""Expressions that may run later or not at all."""


def _line(source: Source, call: cst.Call) -> cst.SimpleStatementLine | None:
    """Return the line before which a statement can be put that runs just before the call."""
    for one in source.ancestors(call):
        if isinstance(one, _UNORDERED):
            return None
        if isinstance(one, cst.SimpleStatementLine):
            return one if len(one.body) == 1 else None
        if isinstance(one, cst.BaseCompoundStatement):
            return None
    return None


FIXER = Fixer((RUN, ROLE), find)
SEED_FIXER = Fixer((SEED,), find_seeds)
