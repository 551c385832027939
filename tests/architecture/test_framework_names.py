"""The core names no framework: what is known of one is in its adapter, found by entry points. The exceptions are declared."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"lightning|ignite", re.IGNORECASE)
WORD = re.compile(r"[\w.:-]*(lightning|ignite)[\w.:-]*", re.IGNORECASE)
"""A text that is a name, as of a package or a key; prose, as in a hint, may say whom it means."""

ALLOWED = {
    "checkpoint/convert/conversion.py": "the type of to=, for editors",
    "checkpoint/layout.py": "a portable file is one that a plain Trainer resumes, so it has Lightning's layout",
    "checkpoint/restore.py": "the packages whose metrics keep states of known kinds, told without importing them",
    "cli/doctor/examination.py": "tells of those releases",
    "compat/blocked.py": "malicious releases, told before anything is imported",
    "compat/instantiator.py": "releases that run code of a file, told before anything is imported",
    "compat/trainer_arguments.py": "the release that renamed arguments",
    "compat/windows.py": "the releases that are supported, told before anything is imported",
    "data/combined.py": "Lightning's CombinedLoader, known by its shape, means what unitrain's means",
    "interop/ignite_programs.py": "public: from_engine and from_step",
    "migrate/optuna/integrations.py": "the names in optuna-integration, told without importing it",
    "testing/bare_metrics.py": "the oracle measures Ignite's metrics with an engine of Ignite's",
}
"""Files of the core that name a framework in their code, and why."""


def names(source):
    """Return the names of frameworks in the code of a file, apart from docstrings, prose and unitrain's own modules."""
    tree = ast.parse(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            text = node.value.strip()
            found |= {text} if WORD.fullmatch(text) and not text.startswith("unitrain.") else set()
        else:
            given = [getattr(node, field, None) for field in ("name", "id", "attr", "arg")]
            found |= {one for one in given if isinstance(one, str) and NAME.search(one)}
    return found


def in_the_core():
    files = sorted((ROOT / "unitrain").rglob("*.py"))
    found = {path.relative_to(ROOT / "unitrain").as_posix(): names(path.read_text()) for path in files}
    return {path: given for path, given in found.items() if given}


def test_the_core_names_no_framework_but_where_it_is_declared():
    found = in_the_core()
    assert {path: given for path, given in found.items() if path not in ALLOWED} == {}
    assert set(ALLOWED) == set(found), "these name no framework any more"


@pytest.mark.parametrize(
    "line",
    ['if package == "ignite": pass', "def of_lightning(): pass", 'x = ("pytorch_lightning.trainer",)', "import ignite"],
)
def test_a_new_name_is_found(line):
    assert names(f'"""Ignite\'s."""\n{line}\n')


@pytest.mark.parametrize("line", ['hint = "as in Ignite: run(data)"', "from unitrain.interop.ignite_programs import a"])
def test_prose_and_own_modules_are_none(line):
    assert not names(f'"""Ignite\'s."""\n{line}\n')
