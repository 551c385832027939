"""The engine: rounds, places, and what is left alone."""

import ast
import random

import libcst as cst
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.migrate.checks import families, migrated, told
from unitrain.migrate.engine import migrate_text, relevant
from unitrain.migrate.findings import Edit, Family, Finding, Fixer, Goal, Rule, Severity
from unitrain.migrate.rewriting import apply, overlaps

NAMES = [
    "Trainer",
    "Engine",
    "trainer",
    "pl",
    "gpus",
    "hparams",
    "run",
    "self",
    "on_epoch_end",
    "training_epoch_end",
    "UnifiedTrainer",
]
names = st.sampled_from(NAMES)
values = st.recursive(
    st.one_of(names, st.integers(0, 99).map(str), st.just("'text'"), st.just("None")),
    lambda inner: st.one_of(
        st.tuples(names, inner).map(lambda one: f"{one[0]}({one[1]})"),
        st.tuples(names, names, inner).map(lambda one: f"{one[0]}.{one[1]}(gpus={one[2]})"),
        st.tuples(inner, names).map(lambda one: f"({one[0]}).{one[1]}"),
        st.lists(inner, max_size=2).map(lambda one: f"[{', '.join(one)}]"),
    ),
    max_leaves=4,
)
simple = st.one_of(
    st.tuples(names, values).map(lambda one: f"{one[0]} = {one[1]}  # noted"),
    values,
    st.just("import torch, os"),
    st.just("from mine import Trainer as pl"),
    st.just("pass"),
)
programs = st.recursive(
    st.lists(simple, min_size=1, max_size=3),
    lambda inner: st.tuples(
        st.sampled_from(["def {}(self, outputs):", "class {}(Trainer):", "if {}:", "for {} in []:"]),
        names,
        inner,
        inner,
    ).map(lambda one: [one[0].format(one[1]), *(f"    {line}" for line in one[2]), *one[3]]),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(programs)
def test_programs_without_a_framework_are_untouched(lines):
    text = "\n".join(lines) + "\n"
    ast.parse(text)
    assert not relevant(text, families())
    outcome = migrate_text(text, families(), Goal("ignite"))
    assert outcome.text == text
    assert not outcome.told


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(programs)
def test_programs_with_a_framework_come_to_an_end(lines):
    text = "import pytorch_lightning as pl\nfrom ignite.engine import Engine\n" + "\n".join(lines) + "\n"
    outcome = migrate_text(text, families(), Goal())
    compile(outcome.text, "after", "exec")
    again = migrate_text(outcome.text, families(), Goal())
    assert again.text == outcome.text
    if outcome.has(Severity.PERSON):
        assert outcome.text == text


def test_a_file_that_does_not_parse():
    outcome = migrated("import lightning as L\nL.Trainer(\n\ndef f(: pass\n")
    assert outcome.has(Severity.ERROR)
    assert told(outcome)[0][1] == "parse-error"
    assert told(outcome)[0][0] > 1


def test_lines_are_those_of_the_original():
    text = """\
    import lightning as L
    class M(L.LightningModule):
        def training_epoch_end(self, outputs):
            print(outputs)
        x = 1
    t = L.Trainer(gpus=0, precision=16)
    t.fit(m, datamodule=d)
    """
    assert [(line, rule) for line, rule, _ in told(migrated(text))] == [
        (3, "lightning-epoch-end"),
        (6, "lightning-devices"),
        (6, "lightning-precision"),
        (6, "lightning-trainer"),
        (7, "lightning-run"),
    ]


def test_lines_after_a_hook_that_grows():
    text = "import lightning as L\nclass M(L.LightningModule):\n    def test_epoch_end(self, outputs): \n        print(outputs)\n\n\nL.Trainer().fit(m)\n"
    assert (7, "lightning-trainer", "change") in told(migrated(text))


def test_newlines_of_windows_stay():
    text = "import lightning as L\r\nt = L.Trainer(max_epochs=1)\r\nt.fit(m, datamodule=d)\r\n"
    after = migrated(text).text
    assert "UnifiedTrainer" in after
    assert after.count("\r\n") == after.count("\n") == 4


def test_the_import_goes_after_the_others_and_once():
    after = migrated(
        '"""Doc."""\nfrom __future__ import annotations\n\ntry:\n    import lightning as L\nexcept ImportError:\n    L = None\n'
        "import os\n\nL.Trainer().fit(m)\nL.Trainer().fit(m)\n"
    ).text
    assert after.count("import UnifiedTrainer") == 1
    assert after.index("import os\nfrom unitrain import UnifiedTrainer\n") > 0


def test_an_import_that_is_there_is_used():
    after = migrated("import lightning as L\nfrom unitrain import UnifiedTrainer\nL.Trainer().fit(m)\n").text
    assert after.count("import UnifiedTrainer") == 1


@pytest.mark.parametrize("seed", range(20))
def test_edits_and_lines_by_chance(seed):
    """Put random edits into a text by hand and by ``apply``; each new line comes from the line it was made in."""
    chance = random.Random(seed)
    data = "".join(chance.choice("ab\né") for _ in range(30)).encode()
    text = data.decode()
    places = sorted(chance.sample(range(len(text) + 1), 6))
    spans = list(zip(places[::2], places[1::2], strict=True))
    byte = [len(text[:one].encode()) for one in range(len(text) + 1)]
    edits = [Edit(byte[start], byte[end], chance.choice(["", "x", "y\nz"])) for start, end in spans]
    expected = text
    for (start, end), edit in reversed(list(zip(spans, edits, strict=True))):
        expected = expected[:start] + edit.text + expected[end:]
    origins = list(range(1, text.count("\n") + 2))
    after, lines = apply(data, edits, origins)
    assert after == expected
    assert len(lines) == after.count("\n") + 1
    assert lines == sorted(lines)
    assert not overlaps(edits[:1], edits[1:])
    assert overlaps([Edit(0, 5, "")], [Edit(4, 6, "")])
    assert overlaps([Edit(2, 2, "x")], [Edit(1, 3, "")])
    assert not overlaps([Edit(1, 1, "x")], [Edit(1, 3, "")])


def test_fixers_import_no_framework():
    import subprocess
    import sys

    code = (
        "import sys\nfrom unitrain.migrate.registry import families\nfrom unitrain.migrate.engine import migrate_text\n"
        "from unitrain.migrate.findings import Goal\nknown = families()\nassert len(known) >= 4\n"
        "text = 'import lightning as L, ignite\\nL.Trainer(gpus=1).fit(m)\\n'\n"
        "assert 'UnifiedTrainer' in migrate_text(text, known, Goal('ignite')).text\n"
        "migrate_text(text, known, Goal(check='ignite'))\n"
        "found = {'pytorch_lightning', 'lightning', 'ignite'} & {one.partition('.')[0] for one in sys.modules}\nassert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_rule_is_named_once_and_explained():
    from unitrain.migrate.registry import rules

    known = rules(families())
    assert len({one.name for one in known}) == len(known) > 30
    assert all(one.summary and one.name == one.name.lower() for one in known)


def test_what_python_does_not_take_is_not_written():
    text = "import lightning\nf(a=1)\n"
    rule = Rule("twice", "an argument is given again")

    def find(source, goal):
        for call in source.all(cst.Call):
            if len(call.args) == 1:
                place = source.end(call) - 1
                yield Finding(rule.name, place, "", "", (Edit(place, place, ", a=2"),))

    outcome = migrate_text(text, [Family("x", ("lightning",), (Fixer((rule,), find),))], Goal())
    assert outcome.text == text
    assert outcome.has(Severity.PERSON)
    assert "argument repeated" in outcome.told[0].finding.reason
