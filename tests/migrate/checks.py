"""What a rule is checked by, in the manner of django-upgrade: a text before, and the text after."""

from functools import cache
from textwrap import dedent

from unitrain.migrate.engine import migrate_text
from unitrain.migrate.findings import Goal, Severity
from unitrain.migrate.registry import families as found_families

families = cache(found_families)


def migrated(before, to="unitrain", *, check=None, disabled=(), behaviour=()):
    return migrate_text(dedent(before), families(), Goal(to, check, behaviour=frozenset(behaviour)), disabled)


def told(outcome):
    return [(one.line, one.finding.rule, one.finding.severity.value) for one in outcome.told]


def check_transformed(before, after, to="unitrain", *, rule=None, behaviour=()):
    """One text becomes the other, which is left as it is; no person has to look."""
    outcome = migrated(before, to, behaviour=behaviour)
    assert outcome.text == dedent(after)
    assert not outcome.has(Severity.PERSON), told(outcome)
    assert not outcome.has(Severity.ERROR), told(outcome)
    assert rule is None or rule in {one.finding.rule for one in outcome.told}, told(outcome)
    compile(outcome.text, "after", "exec")
    again = migrated(outcome.text, to, behaviour=behaviour)
    assert again.text == outcome.text
    assert not again.told, told(again)
    return outcome


def check_noop(before, to="unitrain"):
    """Nothing is found."""
    outcome = migrated(before, to)
    assert outcome.text == dedent(before)
    assert not outcome.told, told(outcome)


def check_person(before, rule, line=None, to="unitrain", *, behaviour=()):
    """The file is left as it is, and a person is told where to look."""
    outcome = migrated(before, to, behaviour=behaviour)
    assert outcome.text == dedent(before)
    items = [one for one in outcome.told if one.finding.severity is Severity.PERSON]
    assert rule in {one.finding.rule for one in items}, told(outcome)
    assert line is None or (line, rule) in {(one.line, one.finding.rule) for one in items}, told(outcome)
    assert all(one.finding.reason and one.finding.fix for one in items)
    assert not [one for one in outcome.told if one.finding.edits]
    return outcome
