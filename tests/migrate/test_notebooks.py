"""Notebooks: one module over all cells; magics, outputs and layout stay."""

import json

import pytest

from unitrain.migrate.findings import Goal
from unitrain.migrate.notebooks import Notebook
from unitrain.migrate.registry import families
from unitrain.migrate.run import migrate_files


def cell(source, **more):
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {},
        "outputs": [{"text": ["é\n"]}],
        "source": source,
        **more,
    }


def book(*cells):
    return {"cells": list(cells), "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


CELLS = (
    {"cell_type": "markdown", "metadata": {}, "source": ["import lightning as L\n"]},
    cell(["%matplotlib inline\n", "!pip install lightning\n", "import lightning as L\n", "from torch import nn"]),
    cell("%%bash\nL.Trainer(gpus=1)\n"),
    cell(
        [
            "%%time\n",
            "for i in range(1):\n",
            "    %timeit -n1 f()\n",
            "    trainer = L.Trainer(gpus=0, max_epochs=1)\n",
            "L?",
        ]
    ),
    cell(["files = !ls\n", "trainer.fit(model, datamodule=dm)\n", "trainer.logger"]),
)
LAYOUTS = {
    "jupyter": {"indent": 1, "ensure_ascii": False},
    "colab": {"indent": 2, "ensure_ascii": True},
    "tabs": {"indent": "\t", "ensure_ascii": False},
    "flat": {"separators": (",", ":")},
    "sorted": {"indent": 1, "sort_keys": True},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("end", ["", "\n"])
def test_only_the_code_changes(tmp_path, layout, end):
    path = tmp_path / "one.ipynb"
    before = json.dumps(book(*CELLS), **layout) + end
    path.write_text(before, encoding="utf-8")
    (report,) = migrate_files([path], families(), Goal("ignite"), write=True)
    expected = book(*CELLS)
    cells = expected["cells"] = [dict(one) for one in expected["cells"]]
    cells[1]["source"] = [*CELLS[1]["source"][:-1], "from torch import nn\n", "from unitrain import UnifiedTrainer"]
    cells[3]["source"] = [
        *CELLS[3]["source"][:3],
        '    trainer = UnifiedTrainer(framework="ignite", accelerator="cpu", max_epochs=1)\n',
        "L?",
    ]
    cells[4]["source"] = [
        "files = !ls\n",
        "trainer.fit(model, train_dataloaders=dm)\n",
        "trainer.foreign_trainer.logger",
    ]
    assert path.read_text(encoding="utf-8") == json.dumps(expected, **layout) + end
    assert (tmp_path / "one.ipynb.orig").read_text(encoding="utf-8") == before
    places = [(entry.cell, entry.line, entry.rule) for entry in report.entries]
    assert places == [
        (4, 4, "lightning-devices"),
        (4, 4, "lightning-trainer"),
        (5, 2, "lightning-run"),
        (5, 3, "lightning-attribute"),
    ]
    assert f"{path}:cell 4:4 lightning-devices change:" in str(report.entries[0])
    again = migrate_files([path], families(), Goal("ignite"), write=True)
    assert [(one.changed, one.entries) for one in again] == [(False, [])]


def test_a_notebook_with_an_item_for_a_person_is_left(tmp_path):
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(book(*CELLS, cell("L.Trainer(**options)"))))
    before = path.read_text()
    (report,) = migrate_files([path], families(), Goal(), write=True)
    assert report.status == 2
    assert [(one.cell, one.line) for one in report.entries] == [(6, 1)]
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}', "no json"])
def test_what_is_no_notebook(tmp_path, text):
    path = tmp_path / "one.ipynb"
    path.write_text(text)
    (report,) = migrate_files([path], families(), Goal())
    assert report.status == 3
    assert "notebook" in report.entries[0].reason


def test_code_that_does_not_parse_is_told_by_its_cell(tmp_path):
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(book(*CELLS, cell(["x = 1\n", "def f(:"]))))
    (report,) = migrate_files([path], families(), Goal())
    assert report.status == 3
    assert (report.entries[0].cell, report.entries[0].line) == (6, 2)


def test_magics_come_back_as_they_were():
    for line in ["%load_ext a", "  !ls", "x = %env", "a, b = !ls", "help?", "np.dot??", "?x"]:
        notebook = Notebook(json.dumps(book(cell(line))))
        assert "pass" in notebook.module
        assert json.loads(notebook.rewritten(notebook.module))["cells"][0]["source"] == line
