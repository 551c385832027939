"""No rule changes what a script does with the installed releases, unless it is chosen: proved by trace."""

import json
from dataclasses import replace

import ignite.engine  # noqa: F401 - first of all, for what importing them draws is no part of a run
import pytest
import pytorch_lightning  # noqa: F401

from tests.bridges.running import natively
from tests.bridges.trace import difference
from tests.migrate.checks import families
from tests.migrate.rule_cases import BEHAVIOUR, NEIGHBOURS, REPAIR, RULES, SAME, TOLD, Row
from unitrain import cli
from unitrain.migrate import registry
from unitrain.migrate.findings import Severity
from unitrain.migrate.registry import rules

FAST = {
    "ignite-run",
    "lightning-devices",
    "lightning-hooks",
    "an import whose error is handled",
}
CHOSEN = ("--behaviour", "all")
TRACED = [name for name, row in RULES.items() if row.kind != TOLD]


def tiered(names):
    return [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names]


def test_each_rule_has_a_row():
    assert {rule.name for rule in rules(families())} == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_row_agrees_with_the_severity_of_its_rule(name):
    severity = next(rule.severity for rule in rules(families()) if rule.name == name)
    kinds = {Severity.CHANGE: {SAME, REPAIR}, Severity.BEHAVIOUR: {BEHAVIOUR}}
    assert RULES[name].kind in kinds.get(severity, {TOLD})


def rewritten(row, folder, *options):
    """Return what the command makes of a script, and what it reports of each rule."""
    folder.mkdir()
    path, report = folder / row.name, folder / "report.json"
    path.write_text(row.script)
    how = ("--check-backend", row.check) if row.check else ("--to", row.to, "--write")
    cli.main(["migrate", str(path), "--report", str(report), *how, *options])
    (one,) = json.loads(report.read_text())["files"]
    return path, one["entries"]


@pytest.mark.parametrize("name", [name for name, row in RULES.items() if row.kind == TOLD and row.script])
def test_what_is_only_told_is_not_rewritten(name, tmp_path):
    row = RULES[name]
    path, entries = rewritten(row, tmp_path / "a", *CHOSEN)
    told = [one["severity"] for one in entries if one["rule"] == name]
    assert told
    assert set(told) <= {"person", "note", "error"}
    held_up = {"person", "error"} & {one["severity"] for one in entries}
    assert path.read_text() == row.script or (told[0] == "note" and not held_up)


@pytest.mark.parametrize("name", tiered(TRACED))
def test_a_rewritten_script_has_the_trace_of_the_original(name, tmp_path):
    told = departure(name, tmp_path)
    assert not told, told


def departure(name, folder):
    """Return where the script of a rule does something else once it is rewritten; empty if it does not."""
    row = RULES[name]
    folder.mkdir(exist_ok=True)
    path, entries = rewritten(row, folder / "a")
    severities = {one["severity"] for one in entries if one["rule"] == name}
    assert severities == {"behaviour" if row.kind == BEHAVIOUR else "change"}, entries
    original = folder / row.name
    original.write_text(row.script)
    wanted, got = natively(original), natively(path)
    assert got.error is None
    if row.kind != REPAIR:
        assert wanted.error is None
        return difference(wanted, got)
    assert wanted.error is not None
    return "" if got.events[: len(wanted.events)] == wanted.events else f"wanted first: {wanted.events}"


@pytest.mark.parametrize("name", [name for name in TRACED if RULES[name].kind == BEHAVIOUR])
@pytest.mark.slow
def test_a_chosen_rule_changes_what_runs(name, tmp_path):
    row = RULES[name]
    path, entries = rewritten(row, tmp_path / "a", "--behaviour", name)
    assert {one["severity"] for one in entries if one["rule"] == name} == {"behaviour"}
    original = tmp_path / row.name
    original.write_text(row.script)
    assert difference(natively(original), natively(path))


def test_a_behaviour_that_is_taken_for_a_change_is_noticed(tmp_path, monkeypatch):
    """The seeded fault: the rule renames the dead hook again, without being asked."""

    def weighed(rule):
        return rule._replace(severity=Severity.CHANGE) if rule.name == "lightning-hooks" else rule

    def fixed(fixers):
        return tuple(replace(one, rules=tuple(map(weighed, one.rules))) for one in fixers)

    known = [replace(one, upgrades=fixed(one.upgrades)) for one in families()]
    monkeypatch.setattr(registry, "families", lambda: known)
    with pytest.raises(AssertionError, match="change"):
        departure("lightning-hooks", tmp_path)
    monkeypatch.setitem(RULES, "lightning-hooks", RULES["lightning-hooks"]._replace(kind=SAME))
    assert "noise" in departure("lightning-hooks", tmp_path / "again")


@pytest.mark.parametrize("name", tiered(NEIGHBOURS))
def test_what_is_around_is_looked_at(name, tmp_path):
    row = Row(SAME, NEIGHBOURS[name])
    path, entries = rewritten(row, tmp_path / "a")
    assert entries
    original = tmp_path / row.name
    original.write_text(row.script)
    wanted, got = natively(original), natively(path)
    assert wanted.error is None
    assert not difference(wanted, got)
