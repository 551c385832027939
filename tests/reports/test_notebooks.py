"""Notebooks in a real Jupyter kernel, and their outputs as a person sees them after the last one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.reports.pages import does
from unitrain.callbacks import progress
from unitrain.reports import live
from unitrain.reports.live import LiveOutput

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
BAR = re.compile(r"\[█* *\] \d+%")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Return what executes a notebook once, in a folder and with settings of its own."""
    found = {}

    def execute(name):
        if name not in found:
            home = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                for variable in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
                    patch.setenv(variable, str(home))
                patch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
                patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
                patch.delenv("PYTHONWARNINGS", raising=False)
                found[name] = (run(nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4), home), home)
        return found[name]

    return execute


def run(notebook, folder, **options):
    where = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where, **options).execute()


def outputs(notebook, source):
    """Return the outputs of the cell that is a text, or has it: their kind, and their text or data."""
    cells = sorted((one for one in notebook.cells if one.cell_type == "code"), key=lambda one: one.source != source)
    cell = next(one for one in cells if source in one.source)
    return [(one.output_type, one.get("text") or one.get("data")) for one in cell.outputs]


@pytest.mark.parametrize("name", ["fit", "tune"])
def test_a_notebook_runs_and_shows_no_noise(name, executed):
    notebook, _ = executed(name)
    found = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert found
    streams = [one.text for one in found if one.output_type == "stream"]
    assert all(text == "All other options have their defaults; explain(all=True) shows them.\n" for text in streams)
    for one in found:
        told = str(one.get("data"))
        assert "widget" not in told.lower()
        assert "\x1b" not in told
        assert "HBox" not in told


def test_the_bar_of_a_fit_is_one_line_at_its_end(executed):
    notebook, _ = executed("fit")
    ((kind, data),) = outputs(notebook, "trainer.fit(")
    assert kind == "display_data"
    first, *epochs = data["text/plain"].splitlines()
    assert re.fullmatch(r"\[█{20}\] 100% epoch 11  step 288  \d+\.\ds", first)
    assert len(BAR.findall(data["text/plain"])) == 1
    assert [one.split()[:2] for one in epochs] == [["epoch", str(number)] for number in range(4, 12)]
    html = data["text/html"]
    assert html.count("<progress") == 1
    assert 'value="1.0000"' in html
    assert "train/accuracy" in html


def test_a_result_shows_itself(executed):
    notebook, _ = executed("fit")
    ((kind, data),) = outputs(notebook, "result")
    assert kind == "execute_result"
    assert "12 epochs, 288 steps on ignite, stopped by max_epochs" in data["text/html"]
    assert data["text/html"].count("<tr>") == 1 + 4
    assert data["text/html"].count("<svg") == 4


def test_an_explanation_is_shown_once(executed):
    notebook, _ = executed("fit")
    found = outputs(notebook, "trainer.explain()")
    assert [kind for kind, _ in found] == ["stream", "execute_result"]
    assert "Engine.run(max_epochs=)" in found[1][1]["text/html"]
    assert "Engine.run(max_epochs=)" not in found[0][1]


def test_the_report_is_written(executed):
    notebook, folder = executed("fit")
    assert outputs(notebook, "result.report(") == []
    assert does((folder / "report.html").read_text("utf-8")) == []


def test_the_bar_of_a_study_is_one_line_at_its_end(executed):
    notebook, _ = executed("tune")
    ((kind, data),) = outputs(notebook, "unitrain.tune(")
    assert kind == "display_data"
    assert re.fullmatch(r"\[█{20}\] 100% tune: 6/6 trials, best train/loss \S+ \(trial \d\)", data["text/plain"])


def test_a_study_and_an_export_show_themselves(executed):
    notebook, _ = executed("tune")
    ((_, study),) = outputs(notebook, "study")
    assert study["text/html"].count("<tr>") == 1 + 6
    ((_, export),) = outputs(notebook, "export_module")
    assert "best.pt2: torch_export" in export["text/html"]
    assert "allowed: 1e-06" in export["text/html"]


EARLY = """
import torch
from functools import partial
from unitrain import Event, TrainSpec, UnifiedTrainer

def fit(handler):
    net = torch.nn.Linear(2, 1)
    spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer("reference", max_epochs=4)
    trainer.on(Event.EPOCH_START(once=3), handler)
    trainer.fit(spec, [(torch.ones(2, 2), torch.ones(2, 1))] * 3)
"""


@pytest.mark.slow  # one more kernel
def test_a_fit_that_ends_early_says_how_far_it_came(tmp_path):
    sources = (EARLY, "fit(lambda run: 1 / 0)", "fit(lambda run: run.stop())")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in sources])
    run(notebook, tmp_path, allow_errors=True)
    _, failed, stopped = (
        [one.data["text/plain"].splitlines()[0] for one in cell.outputs if one.output_type == "display_data"]
        for cell in notebook.cells
    )
    # a handler of `trainer.on` runs before the bar hears of the epoch
    assert [one[:42] for one in failed] == ["[██████████          ] 50% epoch 1  step 6"]
    assert len(stopped) == 1
    assert "75%" in stopped[0]
    assert stopped[0].endswith("stopped by user")


def test_what_a_bar_shows_is_escaped():
    shown = live._Shown(0.5, "<script>", ["<img src=x onerror=1>"])
    assert does(re.sub(r' style="[^"]*"', "", shown._repr_html_())) == []
    assert repr(shown) == "[██████████          ] 50% <script>\n<img src=x onerror=1>"
    assert repr(live._Shown(None, "a", [])) == "a"


def test_outside_of_a_notebook_there_are_lines(capsys):
    assert not live.in_notebook()
    bar = progress.ProgressBar()
    assert bar._notebook is None
    assert LiveOutput().__getstate__() == {"_handle": None}
