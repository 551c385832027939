"""``unitrain tune``, as it is typed."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.reports.pages import does
from tests.tuning.studies import equal
from unitrain.cli import main
from unitrain.cli.commands import UNREAD, _taken
from unitrain.errors import ConfigError
from unitrain.tuning.command import literal
from unitrain.tuning.existing import existing_study
from unitrain.tuning.report import exports

SCRIPT = """
from functools import partial
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split
from unitrain import TrainSpec

def make_spec(trial):
    sgd = partial(torch.optim.SGD, lr=trial.suggest_float("lr", 1e-3, 0.1, log=True))
    return TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=sgd)

def loaders():
    data = TensorDataset(torch.arange(96.0).view(24, 4) / 96, torch.arange(24.0).view(24, 1) / 24)
    train, val = random_split(data, [16, 8])
    return DataLoader(train, 4, shuffle=True), DataLoader(val, 8)

def sized(trial):
    train, val = loaders()
    return DataLoader(train.dataset, trial.suggest_categorical("batch", [2, 4]), shuffle=True), val

def three():
    return 1, 2, 3

def needs(one, two): ...

def fails(trial):
    raise RuntimeError("no such luck")

number = 3
"""
STUDY = ("--storage", "journal:///study.log", "--study", "s")
BEGIN = ("--trials", "3", "--monitor", "val/loss", "--framework", "reference", "--trainer.max_epochs", "2")
NAMED = ("my_search:make_spec", "--data", "my_search:loaders")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_search.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_search", raising=False)
    yield tmp_path
    sys.modules.pop("my_search", None)


def found(name="s"):
    return existing_study("journal:///study.log", name)


def as_typed(capsys, *arguments, status=0):
    """Run the command, and return what it printed."""
    path = list(sys.path)
    assert main(["tune", *arguments]) == status
    assert sys.path == path
    told = capsys.readouterr()
    return told.out if status != 1 else told.err


def test_it_searches_and_prints_the_table(capsys):
    text = as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    assert text.startswith("study 's': 3 trials (3 complete), stopped by n_trials\n")
    assert [len(one.intermediate_values) for one in found().trials] == [2, 2, 2]


def test_the_split_is_the_same_in_each_call(capsys, tmp_path):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    cut = ("--storage", "journal:///study.log", "--study", "cut")
    as_typed(capsys, *NAMED, *BEGIN, "--trials", "1", *cut)
    as_typed(capsys, *NAMED, *BEGIN, *cut)
    assert equal_trials("s", "cut")
    assert not (tmp_path / "runs/s").samefile(tmp_path / "runs/cut")
    assert equal_weights("s", "cut", tmp_path)


def equal_trials(one, other):
    rows = [[(trial.number, trial.values, trial.params) for trial in found(name).trials] for name in (one, other)]
    return rows[0] == rows[1]


def equal_weights(one, other, folder):
    results = [found(name) for name in (one, other)]
    there = [
        replace(result, plan=replace(result.plan, dirpath=folder / "runs" / name))
        for result, name in zip(results, (one, other), strict=True)
    ]
    return equal(*there)


def test_a_split_that_differs_from_call_to_call_would_be_another_study(capsys, monkeypatch):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    seeds = iter(range(100))
    monkeypatch.setattr("unitrain.tuning.data_of_trial.seed_everything", lambda _: torch.manual_seed(next(seeds) + 7))
    as_typed(capsys, *NAMED, *BEGIN, "--storage", "journal:///study.log", "--study", "other")
    assert not equal_trials("s", "other")


@pytest.mark.parametrize("name", ["my_search.py:make_spec", "./my_search.py:make_spec"])
def test_functions_may_be_named_by_their_file_and_take_the_trial(name, capsys, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    name = f"{tmp_path}/{name}"
    as_typed(capsys, name, "--data", f"{tmp_path}/my_search.py:sized", *BEGIN, *STUDY)
    assert {one.params["batch"] for one in found().trials} <= {2, 4}


def test_a_study_is_joined_as_it_was_begun(capsys):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY, "--seed", "7", "--parallel", "2", "--value", "best", "--pruner", "median")
    join = (*NAMED, "--join", "--framework", "ignite", "--trainer.max_epochs", "2")
    text = as_typed(capsys, *join, *STUDY)
    assert "3 trials (3 complete)" in text
    plan = found().plan
    assert (plan.seed, plan.parallel, plan.value, plan.pruner, plan.sampler) == (7, 2, "best", "median", "tpe")
    as_typed(capsys, *join, *STUDY, "--sampler", "random", status=1)
    text = as_typed(capsys, *join, *STUDY, "--sampler", "random", status=1)
    assert "was begun with sampler='tpe'; got sampler='random'" in text


def test_a_worker_that_joins_takes_the_trials_that_are_left(capsys):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    cut = ("--storage", "journal:///study.log", "--study", "cut")
    as_typed(capsys, *NAMED, *BEGIN, *cut, "--timeout", "0.001", status=124)
    assert not all(one.state.is_finished() for one in found("cut").trials)
    text = as_typed(capsys, *NAMED, "--join", "--framework", "ignite", "--trainer.max_epochs", "2", *cut)
    assert "3 trials (3 complete)" in text
    assert equal_trials("s", "cut")


def test_errors_to_catch_and_first_parameters_are_given(capsys):
    warm = ("--warm-start", '{"lr": 0.0625}', "--warm-start", "{'lr': 0.03125}")
    as_typed(capsys, *NAMED, *BEGIN, *STUDY, *warm)
    assert [one.params["lr"] for one in found().trials[:2]] == [0.0625, 0.03125]
    failing = ("my_search:fails", *NAMED[1:], *BEGIN, "--storage", "journal:///study.log", "--study", "failing")
    for name in ("RuntimeError", "builtins:Exception"):
        as_typed(capsys, *failing, "--catch", "KeyError", "--catch", name)
    assert [one.state.name for one in found("failing").trials] == ["FAIL"] * 3


def test_show_prints_the_table_and_what_matters(capsys):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    before = Path("study.log").read_bytes()
    text = as_typed(capsys, "--show", *STUDY)
    assert text.startswith("study 's': 3 trials (3 complete)\ntrial")
    assert re.search(r"importance for val/loss\n  lr  \d\.\d\d █*", text)
    assert Path("study.log").read_bytes() == before


def test_a_study_is_exported(capsys, tmp_path):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY, "--export", "study.csv")
    for name in ("study.json", "study.html"):
        assert as_typed(capsys, "--export", name, *STUDY) == f"{name} is written.\n"
    trials = found().trials
    table = list(csv.DictReader((tmp_path / "study.csv").read_text().splitlines()))
    assert [(row["trial"], row["state"], float(row["val/loss"]), float(row["lr"])) for row in table] == [
        (str(one.number), "complete", one.value, one.params["lr"]) for one in trials
    ]
    read = json.loads((tmp_path / "study.json").read_text())
    assert read["objectives"] == {"val/loss": "minimize"}
    assert [one["values"]["val/loss"] for one in read["trials"]] == [one.value for one in trials]
    assert [one["reported"]["1"] for one in read["trials"]] == [one.value for one in trials]
    page = (tmp_path / "study.html").read_text()
    assert page.count("<tr") == 1 + 3
    assert re.search(r"complete: \S+ at 2</title>", page)
    assert does(page) == []


def test_a_study_is_exported_although_nobody_reads_what_is_printed(capsys):
    """As with ``| head -1`` and a long table; unbuffered, so that the first line fails."""
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-u", "-m", "unitrain", "tune", "--show", "--export", "study.csv", *STUDY]
    with os.fdopen(write, "wb") as unread:
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (UNREAD, "")
    assert len(Path("study.csv").read_text().splitlines()) == 1 + 3


def test_a_study_is_printed_although_it_cannot_be_exported(capsys, monkeypatch):
    """A study without storage exists nowhere else."""

    def full(*_):
        raise ConfigError("the disk is full.", hint="free some space.")

    monkeypatch.setattr(exports, "export", full)
    assert main(["tune", *NAMED, *BEGIN, "--export", "study.csv"]) == 1
    told = capsys.readouterr()
    assert "3 trials (3 complete)" in told.out
    assert "is written" not in told.out
    assert "the disk is full" in told.err


def test_an_export_replaces_a_file_only_if_it_is_told_to(capsys, tmp_path):
    as_typed(capsys, *NAMED, *BEGIN, *STUDY)
    (tmp_path / "study.csv").write_text("mine")
    assert "--overwrite" in as_typed(capsys, "--export", "study.csv", *STUDY, status=1)
    assert (tmp_path / "study.csv").read_text() == "mine"
    as_typed(capsys, "--export", "study.csv", "--overwrite", *STUDY)
    assert (tmp_path / "study.csv").read_text().startswith("trial,state,val/loss,lr,seconds\n")


REFUSED = {
    "no function": ((), "MAKE_SPEC is missing"),
    "no data": (("my_search:make_spec", *BEGIN), "--data is missing"),
    "no trials": ((*NAMED, "--monitor", "val/loss", "--framework", "reference"), "--trials is missing"),
    "no monitor": ((*NAMED, "--trials", "3", "--framework", "reference"), "--monitor is missing"),
    "no framework": ((*NAMED, "--trials", "3", "--monitor", "val/loss"), "--framework is missing"),
    "no such function": (("my_search:make_spek", *NAMED[1:], *BEGIN), "did you mean 'make_spec'"),
    "no such file": (("nothing.py:make_spec", *NAMED[1:], *BEGIN), "there is no file"),
    "no function but a number": ((NAMED[0], "--data", "my_search:number", *BEGIN), "must be a function"),
    "data of three": ((NAMED[0], "--data", "my_search:three", *BEGIN), "a tuple of 3"),
    "data that needs more": ((NAMED[0], "--data", "my_search:needs", *BEGIN), "must take nothing, or one argument"),
    "an unknown option of the trainer": ((*NAMED, *BEGIN, "--trainer.max_epoch", "3"), "max_epochs"),
    "an option without its value": ((*NAMED, *BEGIN, "--trainer.max_steps"), "--trainer.max_steps needs a value"),
    "an invalid option of the trainer": ((*NAMED, *BEGIN, "--trainer.max_epochs", "many"), "'many'"),
    "the trainer's seed": ((*NAMED, *BEGIN, "--trainer.seed", "1"), "seed="),
    "an unknown direction": ((*NAMED, *BEGIN, "--direction", "max"), "maximize"),
    "an unknown sampler": ((*NAMED, *BEGIN, "--sampler", "tpee"), "did you mean 'tpe'"),
    "workers in memory": ((*NAMED, *BEGIN, "--workers", "2"), "journal:///study.log"),
    "to join nothing": ((*NAMED, "--join", "--framework", "ignite", *STUDY), "there is no file"),
    "to join without a storage": ((*NAMED, "--join", "--framework", "ignite"), "--storage is missing"),
    "to join with a number": ((*NAMED, "--join", "--trials", "3", "--framework", "ignite", *STUDY), "--trials"),
    "to catch nothing known": ((*NAMED, *BEGIN, "--catch", "RuntimeErrors"), "did you mean 'RuntimeError'"),
    "to catch what is no error": ((*NAMED, *BEGIN, "--catch", "my_search:number"), "takes classes of errors"),
    "first parameters that are none": ((*NAMED, *BEGIN, "--warm-start", "lr=0.1"), "takes parameters as dicts"),
    "to join with parameters": (
        (*NAMED, "--join", "--warm-start", '{"lr": 0.1}', "--framework", "ignite", *STUDY),
        "--join takes --warm-start from the study",
    ),
    "to show a function": (("my_search:make_spec", "--show", *STUDY), "MAKE_SPEC has no effect"),
    "to show with options": (("--show", "--workers", "2", *STUDY), "--workers would have no effect"),
    "to show with settings": (("--show", "--trainer.max_epochs", "2", *STUDY), "would have no effect"),
    "to show nothing": (("--show", *STUDY), "there is no file"),
    "to show without a name": (("--show", "--storage", "journal:///study.log"), "--study is missing"),
    "an unknown format": (("--export", "study.xlsx", *STUDY), "'.xlsx' is not supported"),
    "to overwrite nothing": (("--show", "--overwrite", *STUDY), "--overwrite has no effect"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_invalid_is_refused_before_anything_is_written(case, capsys, tmp_path):
    arguments, message = REFUSED[case]
    text = as_typed(capsys, *arguments, status=1)
    assert text.startswith("unitrain tune: ")
    assert message in text
    assert "Hint" in text or "hint" in text
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "__pycache__") == ["my_search.py"]


def test_an_unknown_study_is_refused_with_the_one_that_was_meant(capsys):
    as_typed(capsys, *NAMED, *BEGIN, "--storage", "journal:///study.log", "--study", "digits")
    text = as_typed(capsys, "--show", "--storage", "journal:///study.log", "--study", "digit", status=1)
    assert "has no study 'digit'" in text
    assert "did you mean 'digits'?" in text


def test_an_error_of_a_trial_is_the_users_and_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="no such luck"):
        main(["tune", "my_search:fails", *NAMED[1:], *BEGIN, *STUDY])
    assert [one.state.name for one in found().trials] == ["FAIL", "WAITING", "WAITING"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-3", 1e-3),
        ("None", None),
        ("null", None),
        ("true", True),
        ("True", True),
        ("cpu", "cpu"),
        ("16-mixed", "16-mixed"),
        ("[1, 2]", [1, 2]),
        ('{"a": true}', {"a": True}),
        ("'5'", "5"),
        ("", ""),
    ],
)
def test_values_are_read_as_python_or_json(text, value):
    assert literal(text) == value
    assert type(literal(text)) is type(value)


def test_settings_are_taken_out_of_what_was_typed():
    given = ["a", "--trainer.x", "-1", "b", "--trainer.y=2=3", "--trainer.z="]
    assert _taken(given, "--trainer.") == {"x": "-1", "y": "2=3", "z": ""}
    assert given == ["a", "b"]
    with pytest.raises(ConfigError, match=r"--trainer\.x needs a value"):
        _taken(["--trainer.x"], "--trainer.")


def test_help_teaches_and_imports_neither_torch_nor_optuna():
    code = (
        "import sys; from unitrain.cli import main\n"
        "try: main(['tune', '--help'])\n"
        "except SystemExit: print('imported:', *sorted({one.partition('.')[0] for one in sys.modules}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    text, _, imported = done.stdout.partition("imported:")
    for word in ("unitrain tune train:make_spec", "--join", "--show", "--export", "--trainer.NAME", "exit status:"):
        assert word in text
    assert not {"torch", "optuna", "ignite", "pytorch_lightning", "lightning"} & set(imported.split())
