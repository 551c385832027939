"""Magics of a notebook: the statements behind them are rewritten, or a person is told of what they use."""

import ast
import json
from textwrap import dedent

import pytest

from tests.migrate.checks import check_person
from tests.migrate.checks import migrated as rewritten
from unitrain.migrate.findings import Goal, Severity
from unitrain.migrate.magics import as_cell, as_python, is_python
from unitrain.migrate.registry import families
from unitrain.migrate.run import migrate_files

LOADER = "from torch.utils.data import DataLoader\nd = DataLoader(x)"
LIGHTNING = ["from lightning import pytorch as pl", "trainer = pl.Trainer(max_epochs=1)", LOADER]
IGNITE = [
    "from ignite.engine import create_supervised_trainer",
    "trainer = create_supervised_trainer(model, optimizer, loss)",
]


def migrated(tmp_path, *cells, to="unitrain"):
    """Return the sources of a notebook's cells after a migration, and what it told."""
    path = tmp_path / "one.ipynb"
    book = {"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "source": one} for one in cells]}
    path.write_text(json.dumps(book))
    (report,) = migrate_files([path], families(), Goal(to), write=True)
    return [one["source"] for one in json.loads(path.read_text())["cells"]], report.entries


RUNS = {
    "%time result = trainer.test(m, d)": "%time result = [trainer.test(m, d)]",
    "%time trainer.fit(m, train_dataloader=d)": "%time trainer.fit(m, train_dataloaders=d)",
    "if x:\n    %time  trainer.fit(m, datamodule=d)  # go": "if x:\n    %time  trainer.fit(m, train_dataloaders=d)  # go",
    "x = %time trainer.logger": "x = %time trainer.foreign_trainer.logger",
    "x = %time trainer.test(m, d)[0]": "x = %time trainer.test(m, d)",
    "%timeit trainer.fit(m, datamodule=d)": "%timeit trainer.fit(m, train_dataloaders=d)",
    "%timeit -n1 -r 2 -q trainer.fit(m, datamodule=d)": "%timeit -n1 -r 2 -q trainer.fit(m, train_dataloaders=d)",
    "%prun -l 9 -s cumulative trainer.fit(m, datamodule=d)": "%prun -l 9 -s cumulative trainer.fit(m, train_dataloaders=d)",
    "%memit -r 1 trainer.fit(m, datamodule=d)": "%memit -r 1 trainer.fit(m, train_dataloaders=d)",
    "%%time\ntrainer.fit(m, datamodule=d)": "%%time\ntrainer.fit(m, train_dataloaders=d)",
    "%%timeit -n1 x = trainer.logger\nf(x)": "%%timeit -n1 x = trainer.foreign_trainer.logger\nf(x)",
    "%%prun -q\ntrainer.fit(m, datamodule=d)": "%%prun -q\ntrainer.fit(m, train_dataloaders=d)",
    "%%snakeviz\ntrainer.fit(m, datamodule=d)": "%%snakeviz\ntrainer.fit(m, train_dataloaders=d)",
}


@pytest.mark.parametrize(("before", "after"), RUNS.items())
def test_the_statement_behind_a_magic_is_rewritten(tmp_path, before, after):
    cells, told = migrated(tmp_path, "\n".join(LIGHTNING), before)
    assert cells[1] == after
    assert not [one for one in told if one.severity is Severity.PERSON]
    assert "UnifiedTrainer(" in cells[0]
    again, told = migrated(tmp_path, *cells)
    assert (again, told) == (cells, [])


def test_a_trainer_that_is_made_behind_a_magic(tmp_path):
    cells, _ = migrated(tmp_path, f"%time {LIGHTNING[0]}\n%time {LIGHTNING[1]}", "trainer.fit(m, datamodule=d)")
    new = '%time trainer = UnifiedTrainer(framework="lightning", max_epochs=1)'
    assert cells[0] == f"%time {LIGHTNING[0]}\nfrom unitrain import UnifiedTrainer\n{new}"
    assert cells[1] == "trainer.fit(m, train_dataloaders=d)"


def test_a_run_of_an_engine_behind_a_magic(tmp_path):
    cells, _ = migrated(tmp_path, "\n".join(IGNITE), "%time trainer.run(d, max_epochs=2)")
    assert cells[1] == '%time UnifiedTrainer(framework="ignite", max_epochs=2).fit(from_engine(trainer), d)'


@pytest.mark.parametrize("line", ["%time state = trainer.run(d, max_epochs=2)", "%time trainer.run(d, 2, seed=3)"])
def test_what_needs_a_statement_before_it_is_not_timed_otherwise(tmp_path, line):
    cells, told = migrated(tmp_path, "\n".join(IGNITE), line)
    assert cells == ["\n".join(IGNITE), line]
    assert (2, 1, Severity.PERSON) in {(one.cell, one.line, one.severity) for one in told}


@pytest.mark.parametrize(
    "line",
    [
        "%lprun -f m.training_step trainer.fit(m)",
        "x = %timeit -o trainer.test(m)",
        "%time for one in d: trainer.test(m, one)",
        '%prun -T "a b" trainer.fit(m)',
        "!ls {trainer.log_dir}",
        "files = !ls {trainer.log_dir}",
        "%cd {trainer.log_dir}",
        "!ls $trainer",
        "%store trainer",
        "%%other\ntrainer.fit(m, datamodule=d)",
        "%%bash -s {trainer.log_dir}\nls $1",
        "%time pl.Trainer",
    ],
)
def test_a_magic_that_uses_a_trainer_and_is_kept_is_told(tmp_path, line):
    cells, told = migrated(tmp_path, "\n".join(LIGHTNING), "x = 1\n" + line if line[:2] != "%%" else line)
    assert cells[0] == "\n".join(LIGHTNING)
    people = {(one.cell, one.line) for one in told if one.severity is Severity.PERSON}
    assert people == {(2, 1 if line[:2] == "%%" else 2)}


@pytest.mark.parametrize(
    "cell",
    [
        "!python -c 'import lightning as pl; pl.Trainer(gpus=1); trainer.fit()'",
        "%pip install trainer",
        "%run trainer.py",
        "%tensorboard --logdir trainer",
        "trainer?",
        "%time",
        "%time f(x)",
        "%lprun -f m.step f(m)",
        "%%writefile a.py\ntrainer.fit(m, datamodule=d)",
        "%%bash\ntrainer",
        "%%html\n<b>trainer</b>\r",
        "%%other\nf(x)",
        "%%capture trainer\nf(x)",
    ],
)
def test_what_uses_no_trainer_stays(tmp_path, cell):
    cells, told = migrated(tmp_path, "\n".join(LIGHTNING), cell, "trainer.fit(m)")
    assert cells[1:] == [cell, "trainer.fit(m)"]
    assert "UnifiedTrainer(" in cells[0]
    assert {one.cell for one in told} == {1}


LINES = [
    *RUNS,
    *RUNS.values(),
    "%time print(\"a\", 'b')",
    "  %time",
    "a, b = %time f()",
    "a,b=%time f()",
    "%time a = 'x' if y else \"z\"; b = 1",
    "  x = %sx ls {d}",
    "%time await f()",
]


@pytest.mark.parametrize("cell", LINES)
def test_every_line_comes_back(cell):
    assert is_python(cell)
    assert as_cell(as_python(cell)) == cell
    assert as_python(cell).count("\n") == cell.count("\n")
    compile(dedent(as_python(cell)), "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(
    "code",
    [
        "get_ipython().run_line_magic('time', 'trainer.fit(m, train_dataloader=d)')",
        "get_ipython().run_cell_magic('time', '', 'trainer.logger\\n')",
        "get_ipython().magic('time trainer.logger')",
        "import cProfile\ncProfile.run('trainer.logger', sort=1)",
        "from timeit import timeit\ntimeit(stmt='trainer.logger', globals=globals())",
        "exec('x = trainer.logger')",
    ],
)
def test_code_in_a_string_that_uses_a_trainer_is_told(code):
    """nbconvert writes the magics of a notebook as strings."""
    text = "\n".join([*LIGHTNING, code, ""])
    check_person(text, "lightning-escapes", text.count("\n"))
    other = text.replace(code, code.replace("trainer.", "m.trainer."))
    assert "UnifiedTrainer(" in rewritten(other).text
