"""Runs the fixers over a source text until nothing changes."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from unitrain.migrate.findings import Finding, Goal, Severity, person
from unitrain.migrate.handled import in_import, is_handled
from unitrain.migrate.rewriting import apply, clashes, import_edits, overlaps
from unitrain.migrate.source import Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from unitrain.migrate.findings import Edit, Family, Fixer

ROUNDS = 50
"""A limit on rounds, in case two fixers undo each other's changes."""

PARSE = "parse-error"
ENTANGLED = "entangled"


class Told(NamedTuple):
    """A finding, with the line of the original that it is about."""

    line: int
    finding: Finding


@dataclass
class Outcome:
    """The result for one source text.

    Attributes:
        text: The text afterwards; the one before if anything is left for a person.
        told: The findings, in the order of their lines.
    """

    text: str
    told: list[Told]

    def has(self, severity: Severity) -> bool:
        """Return whether there is a finding of some weight."""
        return any(one.finding.severity is severity for one in self.told)


def relevant(text: str, families: Iterable[Family]) -> list[Family]:
    """Return the families whose packages a text names, without parsing it."""
    return [
        one
        for one in families
        if any(re.search(rf"(?:^|;)[ \t]*(from|import)\b.*\b{name}\b", text, re.MULTILINE) for name in one.packages)
    ]


def migrate_text(text: str, families: Sequence[Family], goal: Goal, disabled: Collection[str] = ()) -> Outcome:
    """Return what becomes of a text.

    Args:
        text: A Python file.
        families: The fixers' families.
        goal: The goal of the migration.
        disabled: The names of rules that are not to act.
    """
    try:
        source = Source(text)
    except (cst.ParserSyntaxError, RecursionError) as error:
        line = getattr(error, "raw_line", 1)
        reason = getattr(error, "message", "the code is nested too deeply").partition("\n")[0]
        finding = Finding(PARSE, 0, f"this is not valid Python: {reason}", "fix it first", severity=Severity.ERROR)
        return Outcome(text, [Told(line, finding)])
    present = [one for one in families if any(source.imports(package) for package in one.packages)]
    weights = {rule.name: rule.severity for family in families for rule in family.rules}
    work = _Work(source, goal, disabled, weights)
    if goal.check is not None:
        work.look(fixer for family in present for fixer in family.checks)
        return work.outcome(text)
    upgrades = [fixer for family in present for fixer in family.upgrades]
    conversions = [fixer for family in present for fixer in family.conversions]
    work.run(upgrades)
    work.run(conversions, together=True)
    return work.outcome(text)


class _Work:
    """A text on its way.

    Args:
        source: The parsed source.
        goal: The goal of the migration.
        disabled: The names of rules that are not to act.
        weights: The severities of the rules.
    """

    def __init__(self, source: Source, goal: Goal, disabled: Collection[str], weights: Mapping[str, Severity]) -> None:
        self.source = source
        self.origins = list(range(1, source.text.count("\n") + 2))
        self.goal = goal
        self.disabled = disabled
        self.weights = weights
        self.told: list[Told] = []

    def run(self, fixers: Iterable[Fixer], *, together: bool = False) -> None:
        """Apply fixers until they find nothing to write.

        Args:
            fixers: The fixers.
            together: Whether their edits of one round are made all or not at all.
        """
        ready = list(fixers)
        for _ in range(ROUNDS):
            found = self._found(ready, repairs=not together)
            chosen, left = _compatible(found)
            if left and together:
                found, chosen = [*found, *map(_entangled, left)], []
            if together and any(one.severity is Severity.PERSON for one in found):
                chosen = []
            if not chosen:
                self._tell(one for one in found if not one.edits)
                return
            self._write(chosen)
        raise AssertionError(f"the fixers did not converge: {[one.rule for one in self._found(ready)]}")

    def look(self, fixers: Iterable[Fixer]) -> None:
        """Report findings without writing."""
        self._tell(self._found(fixers))

    def outcome(self, before: str) -> Outcome:
        """Return what became of the text that was ``before``."""
        told = sorted(set(self.told), key=lambda one: (one.line, one.finding.rule, one.finding.start))
        broken = _broken(before, self.source.text)
        if broken:
            told.append(Told(1, person(ENTANGLED, 0, f"the rewritten code is not valid Python: {broken}", "by hand")))
        if any(one.finding.severity is Severity.PERSON for one in told):
            return Outcome(before, [one for one in told if not one.finding.edits])
        return Outcome(self.source.text, told)

    def _found(self, fixers: Iterable[Fixer], *, repairs: bool = False) -> list[Finding]:
        found: list[Finding] = []
        for fixer in fixers:
            for one in fixer.find(self.source, self.goal):
                if one.rule not in self.disabled:
                    found.append(self._weighed(one, repairs=repairs))
                elif one.needed:
                    found.append(person(one.rule, one.start, f"the rule is disabled, and {one.reason}", one.fix))
        return found

    def _weighed(self, finding: Finding, *, repairs: bool) -> Finding:
        """Return the finding, without its edits where they would change what the script does today."""
        if self.weights.get(finding.rule) is Severity.BEHAVIOUR:
            if finding.rule not in self.goal.behaviour:
                chosen = f"--behaviour {finding.rule}: " if finding.edits else ""
                fix = f"left as it is; {chosen}{finding.fix}"
                return replace(finding, edits=(), imports=(), severity=Severity.BEHAVIOUR, fix=fix)
            finding = replace(finding, severity=Severity.BEHAVIOUR) if finding.edits else finding
        elif repairs and finding.needed and finding.edits and is_handled(self.source, finding.start):
            return self._handled(finding)
        return self._named(finding)

    def _handled(self, finding: Finding) -> Finding:
        """Return what becomes of a repair where the file expects the error: an import stays, a person sees the rest."""
        reason = f"{finding.reason}, and the file handles the error here"
        if in_import(self.source, finding.start):
            return replace(finding, edits=(), imports=(), severity=Severity.NOTE, reason=reason, fix="left as it is")
        return person(finding.rule, finding.start, reason, f"if the file is to work without the error: {finding.fix}")

    def _named(self, finding: Finding) -> Finding:
        """Return the finding, or one for a person if a name that it brings means something else in the file."""
        taken = clashes(self.source, finding.imports)
        if not taken:
            return finding
        reason = f"the file uses the name {taken[0]!r} for something else"
        return person(finding.rule, finding.start, reason, f"rename it, then: {finding.fix}")

    def _tell(self, findings: Iterable[Finding]) -> None:
        for one in findings:
            line = self.source.line(one.start)
            self.told.append(Told(self.origins[min(line, len(self.origins)) - 1], one))

    def _write(self, chosen: Sequence[Finding]) -> None:
        self._tell(chosen)
        edits = list(dict.fromkeys(edit for one in chosen for edit in one.edits))
        using = [one.start for one in chosen if one.imports]
        edits += import_edits(self.source, (name for one in chosen for name in one.imports), min(using, default=0))
        text, self.origins = apply(self.source.data, edits, self.origins)
        self.source = Source(text)


def _broken(before: str, after: str) -> str:
    """Return why Python does not take a text that it took before: what parses may still give an argument twice."""
    return "" if before == after or _refused(before) else _refused(after)


def _refused(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of was there before
            compile(text, "migrated", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError) as error:
        return str(error)
    return ""


def _compatible(found: Iterable[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Return the findings whose edits can be made together, and those that have to wait."""
    chosen: list[Finding] = []
    left: list[Finding] = []
    taken: list[Edit] = []
    for one in found:
        if not one.edits:
            continue
        fresh = [edit for edit in one.edits if edit not in taken]
        (left if overlaps(fresh, taken) else chosen).append(one)
        taken += fresh if chosen and chosen[-1] is one else []
    return chosen, left


def _entangled(finding: Finding) -> Finding:
    reason = f"{finding.reason}, but another change is in the same place"
    return replace(finding, edits=(), severity=Severity.PERSON, reason=reason, fix=f"by hand: {finding.fix}")
