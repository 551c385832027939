"""`unitrain report` and `FitResult.report`: what is on the page, and what is refused."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys

import pytest
import torch

from tests.reports.pages import EVIL, does, fitted, sections, seen
from unitrain import CSVLogger, ModelCheckpoint
from unitrain.cli import main
from unitrain.reports.run.record import RunRecord, begin_record, end_record
from unitrain.reports.run.values import read_values

FRAMEWORKS = ("lightning", "ignite", "reference")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a run as ``unitrain fit`` leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "7"
    folder.mkdir()
    begin_record(folder, config="trainer:\n  max_epochs: 2", spec="", framework="ignite", seed=3)
    saver = ModelCheckpoint(folder / "checkpoints", monitor="val/loss", save_last=True)
    tracker = CSVLogger(folder.parent, name="tracked")
    result = fitted("ignite", seed=3, callbacks=[saver], loggers=[tracker], log_every_n_steps=1, profiler="simple")
    shutil.copy(tracker.path, folder / "metrics.csv")
    end_record(folder, result, ["a warning"])
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """Return a copy of it, which a test may change."""
    return shutil.copytree(finished, tmp_path / "runs" / "7")


def page_of(run, tmp_path, *options):
    output = tmp_path / "out.html"
    assert main(["report", str(run), "--output", str(output), *options]) == 0
    return output.read_text("utf-8")


def test_a_report_has_all_that_is_known_of_a_run(run, tmp_path):
    page = page_of(run, tmp_path)
    assert does(page) == []
    assert sections(page) == [
        "Each epoch",
        "Each step",
        "Learning rate and time",
        "Metrics",
        "Checkpoints",
        "Where the time went",
        "What was run",
        "With what",
        "Warnings",
    ]
    text = seen(page)
    for told in (
        "finished",
        "seed 3",
        "max_epochs: 2",
        "model: Linear",
        "SGD(lr=0.1)",
        "checkpoints/last.ckpt",
        "a warning",
    ):
        assert told in text
    assert torch.__version__ in text
    assert "lr/optimizer: 0.1 at 1" in text  # of the dots of its curve
    assert len(re.findall(r"train/loss: \S+ at \d", text)) == 2 + 6  # of each epoch, and of each step


def test_the_command_says_what_it_wrote_and_what_is_missing(run, tmp_path, capsys):
    (run / "metrics.csv").unlink()
    page = page_of(run, tmp_path)
    told = "There is no metrics.csv: curves have one value per epoch."
    assert capsys.readouterr().out == f"{told}\n{run}: wrote {tmp_path / 'out.html'}\n"
    assert told in seen(page)
    assert "Each step" not in sections(page)


def test_it_is_a_command(run, tmp_path):
    command = [sys.executable, "-m", "unitrain", "report", str(run)]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert first.stdout == f"{run}: wrote report.html\n"
    written = (tmp_path / "report.html").read_bytes()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 1
    assert (
        again.stderr
        == "unitrain report: report.html already exists.\nHint: another name; or overwrite=True, --overwrite, for a file.\n"
    )
    assert (tmp_path / "report.html").read_bytes() == written


def test_a_file_is_replaced_if_that_is_wanted(run, tmp_path):
    (tmp_path / "out.html").write_text("mine")
    assert main(["report", str(run), "--output", str(tmp_path / "out.html")]) == 1
    assert (tmp_path / "out.html").read_text() == "mine"
    assert "finished" in page_of(run, tmp_path, "--overwrite")


PARTS = {
    "a CSV file": (["metrics.csv"], "metrics.csv", ["Each epoch", "Each step", "Metrics"]),
    "a folder with a CSV file": (["metrics.csv"], "", ["Each epoch", "Each step", "Metrics"]),
    "a folder with checkpoints": (["checkpoints"], "", ["Checkpoints"]),
    "checkpoints": (["checkpoints"], "checkpoints", ["Checkpoints"]),
    "a record": (["run.json"], "run.json", None),
    "a configuration": (["metrics.csv", "config.yaml"], "", ["Each epoch", "Each step", "Metrics", "What was run"]),
}


@pytest.mark.parametrize(("kept", "given", "expected"), PARTS.values(), ids=PARTS)
def test_a_report_is_made_of_what_there_is(kept, given, expected, run, tmp_path):
    (run / "config.yaml").write_text("api_key: hush\nseed: 1\n")
    part = tmp_path / "part"
    part.mkdir()
    for one in kept:
        (shutil.copytree if (run / one).is_dir() else shutil.copy)(run / one, part / one)
    page = page_of(part / given if given else part, tmp_path)
    assert "hush" not in page
    if expected is not None:
        assert sections(page) == expected
        assert "not known" in seen(page)


def test_curves_of_a_killed_run_come_from_its_csv(run, tmp_path):
    begun = json.loads((run / "run.json").read_text())
    kept = {name: begun[name] for name in ("schema", "framework", "config", "started", "hardware")}
    (run / "run.json").write_text(json.dumps({**kept, "status": "running", "process": 1 << 22}))
    page = page_of(run, tmp_path)
    assert "killed" in seen(page)
    assert sections(page)[:2] == ["Each epoch", "Each step"]
    assert len(re.findall(r"val/loss: \S+ at \d", seen(page))) == 2


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no such file"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_run_that_failed_says_why(error, status, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    begin_record(folder, config="", spec="", framework="ignite", seed=None)
    with pytest.raises(type(error)) as caught:
        raise error
    end_record(folder, caught.value)
    text = seen(page_of(folder, tmp_path))
    assert re.search(rf"\b{status}\b", text)
    assert type(error).__name__ in text
    assert "Traceback" in text


def evil_record():
    values = {EVIL: 1.0, f"val/{EVIL}": math.nan, f"lr/{EVIL}": 0.1}
    warning = {"category": EVIL, "message": EVIL, "count": 1}
    return RunRecord(
        status="failed",
        framework=EVIL,
        config=f"{EVIL}: {EVIL}",
        spec=EVIL,
        started=EVIL,
        ended=EVIL,
        stopped_by=EVIL,
        metrics=values,
        history=[{"epoch": 0, "step": 1, **values}, {"epoch": 1, "step": math.inf, **values}],
        rates=[{"epoch": math.nan, EVIL: 1.0}],
        times=[{"epoch": 0, "steps": 0, "seconds": math.inf}, {"steps": 1}, {EVIL: 1.0}],
        profile={EVIL: {"calls": 0, "seconds": math.nan}, "total": {"seconds": 0.0}},
        best_checkpoint=EVIL,
        warnings=[warning],
        error={"type": EVIL, "message": EVIL, "traceback": EVIL},
        versions={EVIL: EVIL},
        hardware={EVIL: EVIL},
        git={"commit": EVIL, "branch": EVIL, "changed_files": EVIL},
        process=-1,
    )


def test_a_hostile_record_is_shown_as_text(tmp_path):
    folder = tmp_path / "<script>run"
    folder.mkdir()
    (folder / "run.json").write_text(evil_record().to_json())
    (folder / "metrics.csv").write_text(f'step,epoch,"{EVIL.replace(chr(34), chr(34) * 2)}"\n1,0,1\n2,0,x\n3,1,nan\n')
    (folder / "<img src=x onerror=1>.ckpt").write_text("")
    page = page_of(folder, tmp_path)
    assert does(page) == []
    assert page.count("&lt;script&gt;window.hit") > 20
    assert "1 cells of the CSV file" in seen(page)


def test_a_huge_record_makes_a_page_of_limited_size(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    values = {f"name {number}": 1.0 for number in range(2000)}
    history = [{"epoch": epoch, **values} for epoch in range(3)] + [{"epoch": epoch} for epoch in range(3, 5000)]
    record = RunRecord(status="finished", framework="x", config="x" * 10**6, metrics=values, history=history)
    (folder / "run.json").write_text(record.to_json())
    page = page_of(folder, tmp_path)
    assert len(page) < 2 << 20
    assert "and 800000 more characters" in page
    assert "and 1700 more metrics" in page


NOTHING = {
    "nothing": lambda folder: folder / "missing",
    "an empty folder": lambda folder: folder,
    "a folder of runs": lambda folder: folder / "runs",
    "a binary file": lambda folder: folder / "binary.csv",
    "an empty file": lambda folder: folder / "empty.csv",
    "a text": lambda folder: folder / "text.csv",
    "a damaged record": lambda folder: folder / "damaged",
}


@pytest.mark.parametrize("make", NOTHING.values(), ids=NOTHING)
def test_what_is_no_run_is_refused(make, tmp_path, capsys):
    folder = tmp_path / "given"
    (folder / "runs" / "1").mkdir(parents=True)
    (folder / "runs" / "1" / "run.json").write_text("{}")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text("{")
    (folder / "binary.csv").write_bytes(bytes(range(256)) * 10)
    (folder / "empty.csv").write_text("")
    (folder / "text.csv").write_text("once upon a time\n, there was\n")
    assert main(["report", str(make(folder)), "--output", str(tmp_path / "out.html")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("unitrain report: ")
    assert "\nHint: " in told
    assert not (tmp_path / "out.html").exists()


def test_a_folder_of_runs_names_one_of_them(tmp_path, capsys):
    for number in ("1", "2"):
        (tmp_path / "runs" / number).mkdir(parents=True)
        (tmp_path / "runs" / number / "run.json").write_text("{}")
    assert main(["report", str(tmp_path / "runs")]) == 1
    assert f"such as {tmp_path / 'runs' / '2'}." in capsys.readouterr().err


@pytest.mark.parametrize("target", ["folder", "read-only/x.html", "file/x.html", ""])
def test_what_cannot_be_written_is_refused(target, run, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "read-only").symlink_to("/proc/sys")
    output = str(tmp_path / target) if target else ""
    assert main(["report", str(run), "--output", output, "--overwrite"]) == 1
    assert capsys.readouterr().err.startswith("unitrain report: ")
    assert (tmp_path / "file").read_text() == "mine"


LIGHTNINGS = """epoch,step,train_loss_step,train_loss_epoch,val_loss,lr-SGD
,0,,,,0.1
0,9,1.5,,,
0,19,1.25,,,
0,19,,,0.9,
0,19,,1.4,,
1,29,1.0,,,
1,39,,,0.5,
1,39,,1.1,,
"""


def test_the_csv_file_of_another_logger_is_understood(tmp_path):
    (tmp_path / "metrics.csv").write_text(LIGHTNINGS)
    page = page_of(tmp_path / "metrics.csv", tmp_path)
    found = re.findall(r"(\S+): (\S+) at (\d+)", seen(page))
    assert ("val_loss", "0.5", "1") in found
    assert ("train_loss_step", "1.25", "19") in found
    assert sections(page) == ["Each epoch", "Each step", "Metrics"]
    titles = re.findall(r"<figcaption><b>(.*?)</b>", page)
    assert titles == ["loss", "train_loss_step"]  # the losses of an epoch share a chart


EVERY_STEP = """step,epoch,train/loss
1,0,4.0
2,0,3.0
2,0,3.5
3,1,2.0
4,1,1.0
4,1,1.5
"""
SOME_STEPS = """step,epoch,train/loss,val/loss
2,0,4.0,
3,0,3.5,9.0
4,1,2.0,
6,1,1.0,
7,1,1.5,8.0
"""
CUT_OFF = """step,epoch,train/loss,val/loss
2,0,4.0,
3,0,3.5,9.0
4,1,2.0,
6,1,1.0,
"""
STEPS = {
    "every step": (EVERY_STEP, [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]),
    "some steps": (SOME_STEPS, [(2, 4.0), (4, 2.0), (6, 1.0)]),
    "a run that was cut off": (CUT_OFF, [(2, 4.0), (4, 2.0), (6, 1.0)]),
    "no epochs": ("step,train/loss\n1,2.0\n2,1.0\n", [(1, 2.0), (2, 1.0)]),
    "no steps": ("epoch,train/loss\n0,2.0\n1,1.0\n", None),
    "neither": ("train/loss\n2.0\n1.0\n", [(0, 2.0), (1, 1.0)]),
}


@pytest.mark.parametrize(("text", "expected"), STEPS.values(), ids=STEPS)
def test_values_of_a_step_are_not_mixed_with_those_of_its_epoch(text, expected, tmp_path):
    (tmp_path / "metrics.csv").write_text(text)
    found = dict(read_values(tmp_path / "metrics.csv").by_step())
    assert {*found} == ({"train/loss"} if expected else set())
    if expected:
        assert [(one.step, one.value) for one in found["train/loss"]] == expected


def test_all_steps_of_a_run_are_told(finished):
    with (finished / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not row["val/loss"]]
    found = dict(read_values(finished / "metrics.csv").by_step())
    assert {*found} == {"train/loss"}
    assert [(one.step, one.value) for one in found["train/loss"]] == [
        (int(row["step"]), float(row["train/loss"])) for row in rows
    ]
    assert len(rows) == 6
