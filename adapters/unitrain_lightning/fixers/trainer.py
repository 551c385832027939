"""``pl.Trainer(...)`` becomes ``UnifiedTrainer(framework=...)``, and what is done with it is done with that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import libcst as cst

from unitrain.config import TrainerConfig
from unitrain.errors import ConfigError
from unitrain.migrate.arguments import UNKNOWN, Argument, Layout, Piece, arguments, nested
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain.migrate.origins import items
from unitrain.migrate.quoted import quoted
from unitrain.migrate.rewriting import drop_imported
from unitrain.migrate.values import values
from unitrain.migrate.variables import Holder, held_by, others, uses, value_of
from unitrain_lightning.fixers import keywords
from unitrain_lightning.fixers.names import PACKAGES, TRAINER, bases_of_trainer, calls, is_callback, short
from unitrain_lightning.fixers.runs import METHODS, RUN, find_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

FRAMEWORK = "lightning"
RULE = Rule("lightning-trainer", 'pl.Trainer(...) becomes UnifiedTrainer(framework="lightning", ...)')
ATTRIBUTE = Rule("lightning-attribute", "attributes of the Trainer are read from trainer.foreign_trainer")
ESCAPES = Rule("lightning-escapes", "a Trainer that is passed on; to fix by hand", Severity.PERSON)

_OURS = frozenset(TrainerConfig.__dataclass_fields__)
_TOGETHER = {"gradient_clip_algorithm", "check_val_every_n_epoch"}
"""Arguments that are only valid together with another one."""

_NEW = "UnifiedTrainer"
_ASKING = ("isinstance(", "issubclass(")
_BY_HAND = "UnifiedTrainer(framework=..., ...) by hand"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the Trainers of a file, and all that is done with them."""
    made = list(calls(source, TRAINER))
    for owner in bases_of_trainer(source):
        yield person(ESCAPES.name, source.start(owner), "a class subclasses the Trainer", _BY_HAND)
    for one in source.starred(PACKAGES):
        if any(source.code(call.func) == "Trainer" for call in source.all(cst.Call)):
            yield person(ESCAPES.name, source.start(one), "a Trainer that may be one of *", "import it by its name")
    if not made:
        yield from _elsewhere(source, [])
        return
    followed = Followed(source, goal.folder)
    for call in made:
        followed.value(call)
    gone = [source.start(call.func) for call in made] + [source.start(one) for one in followed.annotations]
    unused = {call.func.value for call in made if isinstance(call.func, cst.Name)}
    imports = [edit for name in sorted(unused) for edit in drop_imported(source, name, gone)]
    for call in made:
        yield _construction(source, goal, call, followed, imports)
    yield from _elsewhere(source, gone)
    yield from followed.findings()


def _elsewhere(source: Source, gone: list[int]) -> Iterator[Finding]:
    """Find names of the Trainer without a call, passed to code that may call it."""
    for node in [*source.all(cst.Attribute), *source.all(cst.Name)]:
        if short(source.name(node)) not in TRAINER or source.start(node) in gone:
            continue
        around = source.parent(node)
        typed = source.around(node, cst.Annotation, cst.ImportFrom, cst.Import) is not None
        named = isinstance(around, cst.Attribute)
        asked = isinstance(around, cst.Arg) and source.code(source.parent(around)).startswith(_ASKING)
        if not (typed or named or asked):
            yield person(ESCAPES.name, source.start(node), "the Trainer is referenced but not called", _BY_HAND)


# --- the call ---------------------------------------------------------------------------------------------------------


def _construction(source: Source, goal: Goal, call: cst.Call, followed: Followed, imports: list[Edit]) -> Finding:
    start = source.start(call)
    given = arguments(source, call)
    refused = _refusal(source, given)
    if refused:
        return person(RULE.name, start, refused, _BY_HAND)
    layout = Layout(source, call)
    word = goal.word(FRAMEWORK)
    pieces, native, mappings = _divided(source, layout, given)
    if native:
        place = _place(source, given, pieces)
        if place is None:
            fix = "assign their values to names before the call"
            return person(RULE.name, start, "its arguments would be evaluated in another order", fix)
        pieces.insert(place, nested(layout, "native", FRAMEWORK, native))
    pieces = [Piece(f'framework="{word}"'), *pieces, *mappings]
    edits = [Edit(source.start(call.func), source.end(call.func), _NEW), layout.edit(pieces), *imports]
    edits += [Edit(source.start(one), source.end(one), _NEW) for one in followed.annotations]
    reason = "the Trainer only runs on one framework"
    return Finding(RULE.name, start, reason, f'{_NEW}(framework="{word}")', tuple(edits), (_NEW,), needed=True)


def _divided(source: Source, layout: Layout, given: list[Argument]) -> tuple[list[Piece], list[Piece], list[Piece]]:
    """Return the arguments that UnifiedTrainer takes, those that only Lightning does, and ``**mappings``."""
    pieces, native, mappings = [], [], []
    for one in given:
        if one.star:
            mappings.append(layout.moved(one.index))
            foreign = [name for name in keywords.names(source, one) or () if not _all_taken(source, one, name)]
            native += [Piece(keywords.taken_out(one.text, foreign))] if foreign else []
        elif _is_default(one):
            continue
        elif one.keyword == "callbacks" and _is_callback(source, one):
            pieces.append(Piece(f"callbacks=[{one.text}]", one.index))
        elif _is_ours(source, one):
            pieces.append(layout.pieces[one.index])
        else:
            native.append(layout.moved(one.index))
    return pieces, native, mappings


def _place(source: Source, given: list[Argument], pieces: list[Piece]) -> int | None:
    """Return after how many of the pieces ``native=`` goes, so that calls are made in the order in which they were.

    None if there is no such place.
    """
    own = {one.index for one in pieces}
    acting = [one.index for one in given if _acts(source, one)]
    moved = [one for one in acting if one not in own]
    for place in range(len(pieces), -1, -1):
        before = {one.index for one in pieces[:place]}
        if [one for one in acting if one in before] + moved + [one for one in acting if one in own - before] == acting:
            return place
    return None


def _acts(source: Source, given: Argument) -> bool:
    """Return whether evaluating an argument runs code other than Lightning's or Python's own constructors."""
    made = source.all(cst.Call, given.node.value)
    return any(not short(source.name(one.func)) and source.code(one.func) not in _PLAIN for one in made)


_PLAIN = frozenset({"bool", "dict", "float", "int", "len", "list", "max", "min", "os.path.join", "str", "tuple"})


def _refusal(source: Source, given: list[Argument]) -> str:
    """Return why the arguments cannot be rewritten; empty if they can."""
    if any(one.star and keywords.names(source, one) is None for one in given):
        return "its **kwargs are unknown, so they cannot be split into options and native arguments"
    if any(not one.keyword and not one.star for one in given):
        return "its arguments are positional, and Lightning changed their order"
    return ""


def _is_ours(source: Source, given: Argument) -> bool:
    """Return whether UnifiedTrainer takes an argument with all that its value may be; Lightning gets the rest."""
    if given.keyword not in _OURS:
        return False
    if given.keyword in ("strategy", "profiler") and given.value is UNKNOWN:
        return False
    return all(_taken(given.keyword, one) for one in values(source, given.node.value) if one is not UNKNOWN)


def _all_taken(source: Source, mapping: Argument, name: str) -> bool:
    """Return whether UnifiedTrainer takes an argument of a mapping, with all that the file gives to it there."""
    given = [value for key, value in items(source, mapping.node.value) if key == name]
    found = [one for value in given for one in values(source, value) if one is not UNKNOWN]
    return name in _OURS and all(_taken(name, one) for one in found)


def _taken(name: str, value: Any) -> bool:
    try:
        TrainerConfig(**{name: value} if name not in _TOGETHER else {})
    except ConfigError:
        return False
    return True


def _is_default(given: Argument) -> bool:
    """Return whether None means Lightning's own default, where unitrain has no None."""
    return given.keyword in _OURS and given.value is None and not _taken(given.keyword, None)


def _is_callback(source: Source, given: Argument) -> bool:
    """Return whether an argument is a single callback, which becomes a list of one."""
    made = _made(source, given.node.value)
    return bool(made) and all(isinstance(one, cst.Call) and _makes_callback(source, one) for one in made)


def _made(source: Source, node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """Return what an expression may be: itself, or all that the file assigns to its name."""
    if not isinstance(node, cst.Name):
        return [node]
    names = [(target.target, one.value) for one in source.all(cst.Assign) for target in one.targets]
    return [value for target, value in names if isinstance(target, cst.Name) and target.value == node.value]


def _makes_callback(source: Source, call: cst.Call) -> bool:
    if short(source.name(call.func)).startswith("callbacks."):
        return True
    name = source.code(call.func)
    return any(one.name.value == name and is_callback(source, one) for one in source.all(cst.ClassDef))


# --- where it goes ----------------------------------------------------------------------------------------------------


@dataclass
class Followed:
    """Where the Trainers of a file go: through variables, parameters and returned values."""

    source: Source
    folder: str | None = None
    annotations: list[cst.CSTNode] = field(default_factory=list)
    _made: dict[tuple[str, int], tuple[Holder, list[cst.CSTNode]]] = field(default_factory=dict)
    _values: set[int] = field(default_factory=set)
    _read: set[int] = field(default_factory=set)
    _found: list[Finding] = field(default_factory=list)
    _seen: list[tuple[cst.CSTNode, str]] = field(default_factory=list)
    _runs: list[cst.Call] = field(default_factory=list)

    def value(self, node: cst.CSTNode) -> None:
        """Follow the value of an expression that is a Trainer."""
        if id(node) in self._values:
            return
        self._values.add(id(node))
        variable = held_by(self.source, node)
        if variable is None:
            self._use(value_of(self.source, node))
            return
        self._annotated(self.source.parent(value_of(self.source, node)))
        known = self._made.setdefault(variable.key, (variable, []))
        known[1].append(node)
        if len(known[1]) == 1:
            for use in uses(self.source, variable):
                self._use(use)

    def _annotated(self, statement: cst.CSTNode) -> None:
        if isinstance(statement, cst.AnnAssign):
            node = statement.annotation.annotation
            if short(self.source.name(node)) in TRAINER:
                self.annotations.append(node)

    def findings(self) -> Iterator[Finding]:
        """Yield what is found on the way."""
        yield from self._found
        for node, name in self._seen:
            yield self._bridged(node, name)
        yield from self._quoted()
        for variable, known in self._made.values():
            for other in others(self.source, variable, known):
                reason = f"{variable.name} may also hold something other than a Trainer"
                yield person(ESCAPES.name, self.source.start(other), reason, "use a separate name")

    def _quoted(self) -> Iterator[Finding]:
        names = {variable.name for variable, _ in self._made.values()}
        for call, words in quoted(self.source):
            for name in sorted(names & words):
                reason = f"code in a string uses {name}, which holds a Trainer"
                yield person(ESCAPES.name, self.source.start(call), reason, "write the code out, or change it by hand")

    def _use(self, node: cst.CSTNode) -> None:
        if id(node) in self._read:
            return
        self._read.add(id(node))
        around = self.source.parent(node)
        if isinstance(around, cst.Attribute) and around.value is node:
            self._found.extend(self._attribute(node, around))
        elif isinstance(around, cst.Arg):
            self._argument(node, around)
        elif isinstance(around, cst.Return):
            self._returned(node)
        elif isinstance(around, cst.Assign) and held_by(self.source, node) is not None:
            self.value(node)
        elif not isinstance(around, _HARMLESS):
            self._escapes(node, "a Trainer is passed to unknown code")

    def _escapes(self, node: cst.CSTNode, reason: str) -> None:
        fix = (
            "check the code that uses it: UnifiedTrainer has fit, validate, test, predict, save_checkpoint and"
            " foreign_trainer"
        )
        self._found.append(person(ESCAPES.name, self.source.start(node), reason, fix))

    def _attribute(self, node: cst.CSTNode, attribute: cst.Attribute) -> Iterator[Finding]:
        name, around = attribute.attr.value, self.source.parent(attribute)
        called = isinstance(around, cst.Call) and around.func is attribute
        if name in METHODS and called:
            assert isinstance(around, cst.Call)  # noqa: S101 - for the type checker
            self._runs.append(around)
            yield from find_run(self.source, around, name, self.folder)
        elif name in METHODS:
            yield person(ESCAPES.name, self.source.start(attribute), f"trainer.{name} is not called here", _BY_HAND)
        elif name != "save_checkpoint" or not isinstance(around, cst.Call) or len(around.args) != 1:
            self._seen.append((node, name))
        elif around.args[0].keyword is not None:
            edit = Edit(self.source.start(around.args[0]), self.source.end(around.args[0].keyword), "path")
            reason = "UnifiedTrainer.save_checkpoint has different parameter names"
            yield Finding(RUN.name, self.source.start(node), reason, "path=", (edit,), needed=True)

    def _bridged(self, node: cst.CSTNode, name: str) -> Finding:
        """Return what becomes of an attribute of the Trainer that its first run makes, and that is not there before."""
        start = self.source.start(node)
        if self._before_any_run(node):
            fix = f"pass it to the constructor, or use trainer.foreign_trainer.{name} after the run"
            return person(ATTRIBUTE.name, start, f"trainer.{name} is used before anything ran", fix)
        place = self.source.end(node)
        reason = f"{name} belongs to the Trainer as the module sees it"
        edits = (Edit(place, place, ".foreign_trainer"),)
        return Finding(ATTRIBUTE.name, start, reason, f".foreign_trainer.{name}", edits, needed=True)

    def _before_any_run(self, node: cst.CSTNode) -> bool:
        function = self.source.around(node, cst.FunctionDef)
        runs = [one for one in self._runs if self.source.around(one, cst.FunctionDef) is function]
        if function is not None and not runs:
            return bool(self.source.all(cst.Return, function)) and any(
                self.source.around(one, cst.FunctionDef) is function for one in calls(self.source, TRAINER)
            )
        return bool(runs) and self.source.start(node) < min(self.source.start(one) for one in runs)

    def _argument(self, node: cst.CSTNode, given: cst.Arg) -> None:
        """Follow a Trainer into a function of the file."""
        call = self.source.parent(given)
        if not isinstance(call, cst.Call) or not isinstance(call.func, cst.Name) or given.star:
            self._escapes(node, "a Trainer is passed to unknown code")
            return
        if call.func.value in _SHOWING:
            return
        functions = self.source.functions(call.func.value)
        parameter = _parameter(functions[0], call, given) if len(functions) == 1 else None
        if parameter is None:
            self._escapes(node, f"a Trainer is passed to {call.func.value}")
            return
        scope = self.source.scope(functions[0].body.body[0])
        for use in uses(self.source, Holder(parameter.name.value, scope=scope)):
            self._use(use)

    def _returned(self, node: cst.CSTNode) -> None:
        """Follow a returned Trainer to the calls of the function."""
        function = self.source.around(node, cst.FunctionDef)
        assert function is not None  # noqa: S101 - a return stands in a function
        name = function.name.value
        made = [one for one in self.source.all(cst.Call) if isinstance(one.func, cst.Name) and one.func.value == name]
        if not made or len(self.source.functions(name)) != 1:
            self._escapes(node, f"a Trainer is returned by {name}, whose callers are unknown")
        for call in made:
            self.value(call)


_HARMLESS = (
    cst.Expr,
    cst.Comparison,
    cst.ComparisonTarget,
    cst.BooleanOperation,
    cst.UnaryOperation,
    cst.If,
    cst.Assert,
    cst.Del,
    cst.FormattedStringExpression,
)
_SHOWING = {"print", "repr", "str", "type", "id", "bool"}


def _parameter(function: cst.FunctionDef, call: cst.Call, given: cst.Arg) -> cst.Param | None:
    """Return the parameter of a function that an argument of a call becomes."""
    known = [*function.params.posonly_params, *function.params.params]
    if given.keyword is not None:
        named = [*known, *function.params.kwonly_params]
        return next((one for one in named if one.name.value == given.keyword.value), None)
    index = list(call.args).index(given)
    return known[index] if index < len(known) else None


FIXER = Fixer((RULE, RUN, ATTRIBUTE, ESCAPES), find)
