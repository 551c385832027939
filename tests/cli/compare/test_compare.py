"""``unitrain compare``, as it is typed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unitrain import load_weights
from unitrain.cli import main
from unitrain.testing.comparison import launch
from unitrain.testing.comparison.side import run_side

PROJECT = Path(__file__).parent / "project"
YAML = ("--config", "run.yaml")
BOTH = ("--frameworks", "reference,ignite")
FAULTY = "--trainer.callbacks+=mine.Faulty"


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def run(project, capsys, monkeypatch):
    """Compare with the sides in this process; return the status, and what was printed."""
    monkeypatch.setattr(launch, "in_process", lambda program, orders: run_side(program, orders, lambda _: None))

    def ran(*arguments):
        path = list(sys.path)
        status = main(["compare", *map(str, arguments)])
        assert sys.path == path
        told = capsys.readouterr()
        return status, told.out, told.err

    return ran


def files(folder):
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if "__pycache__" not in one.parts}


BEFORE = {"run.yaml", "mine.py"}


def test_a_file_is_compared_on_two_backends_in_processes(project):
    """The whole command, as a user types it."""
    command = [sys.executable, "-c", "import sys; from unitrain.cli import main; sys.exit(main())", "compare"]
    paths = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run(
        [*command, *YAML, *BOTH, "--json", "out.json", "--report", "out.html"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("equal: reference and ignite have the same bits in 4 steps\n")
    found = json.loads((project / "out.json").read_text())
    assert (found["equal"], found["steps"], [one["name"] for one in found["sides"]]) == (
        True,
        4,
        ["reference", "ignite"],
    )
    assert "have the same bits" in (project / "out.html").read_text()
    assert files(project) == BEFORE | {"out.json", "out.html"}


def test_all_installed_backends_are_the_default(run):
    status, out, _ = run(*YAML)
    assert status == 0
    assert out.startswith("equal: reference, ignite and lightning have the same bits in 4 steps")


@pytest.mark.parametrize(
    ("engine", "backend"), [("Trainer", "lightning"), ("Engine", "ignite"), ("NoneType", "reference")]
)
def test_one_ulp_on_one_backend_is_named(run, engine, backend, project):
    other = "ignite" if backend == "reference" else "reference"
    options = ("--frameworks", f"{other},{backend}", "--json", "out.json")
    status, out, _ = (
        run(*YAML, *options, f"{FAULTY}", "--steps", "4")
        if engine == "NoneType"
        else run(
            *YAML,
            *options,
            "--trainer.callbacks+",
            f'{{"class_path": "mine.Faulty", "init_args": {{"engine": "{engine}"}}}}',
        )
    )
    assert status == 1
    one = json.loads((project / "out.json").read_text())["difference"]
    assert one["sides"] == [other, backend]
    assert (one["step"], one["phase"], one["tensor"], one["index"], one["ulp"]) == (
        3,
        "gradient",
        "layers.3.bias",
        [1],
        1,
    )
    assert "step 3, epoch 0, batch 3, gradient" in out


def test_a_crash_on_one_side_has_a_status_of_its_own(run, project):
    status, out, err = run(*YAML, *BOTH, "--trainer.callbacks+=mine.Crashing")
    assert (status, err) == (2, "")
    told = " ".join(out.split())
    assert "reference failed: RuntimeError: no such luck (at " in told
    assert f"{project / 'mine.py'}:" in "".join(out.split())
    assert "Traceback" not in out


def test_functions_are_compared_with_options_of_the_trainer(run):
    status, out, _ = run("mine:make", *BOTH, "--trainer.max_epochs", "2", "--seed", "3")
    assert status == 0
    assert "in 8 steps" in out


def test_functions_may_be_named_by_their_file(run, project, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run(f"{project}/mine.py:make", *BOTH, "--steps", "1")[0] == 0


def test_a_loop_is_compared_with_a_file(run):
    status, out, _ = run("mine:make_loop", "run.yaml")
    assert status == 0
    assert out.startswith("equal: make_loop and run.yaml have the same bits in 4 steps")
    status, out, _ = run("mine:make_loop", "run.yaml", "--spec.optimizer.lr", "0.02")
    assert status == 1
    assert "step 1, epoch 0, batch 1, after step (parameters)" in out


def test_two_files_are_compared(run, project):
    (project / "other.yaml").write_text((project / "run.yaml").read_text().replace("width: 8", "width: 9"))
    status, out, _ = run("run.yaml", "other.yaml")
    assert status == 1
    assert "before the first batch, initial weights" in out
    assert "shape" in out or "(8, 4)" in out


def test_two_checkpoints_are_compared(run, project):
    assert main(["fit", *YAML]) == 0
    first, last = sorted(project.rglob("*.ckpt"))
    assert load_weights(first)
    status, out, _ = run(first, last, "--json", "out.json")
    assert status == 0
    assert "have the same weights, optimizer states and counters" in " ".join(out.split())
    assert json.loads((project / "out.json").read_text())["compared"] == ["weights", "optimizer states", "counters"]


REFUSED = {
    "nothing": ((), "nothing to compare"),
    "one framework": ((*YAML, "--frameworks", "ignite"), "one side only: ignite"),
    "an unknown framework": ((*YAML, "--frameworks", "ignit,reference"), "framework='ignit' is unknown"),
    "no framework": ((*YAML, "--frameworks", ","), "frameworks is empty"),
    "an unknown option": ((*YAML, "--framework", "ignite"), "compare takes several"),
    "a misspelt option": ((*YAML, "--frameworkz", "ignite"), "unknown option --frameworkz"),
    "no file": (("--config", "missing.yaml"), "missing.yaml"),
    "no such file": (("a.ckpt", "b.ckpt"), "there is no file a.ckpt"),
    "a script": (("mine.py",), "mine.py is a script; a program is a function in one"),
    "no such module": (("nowhere:make",), "No module named 'nowhere'"),
    "no such function": (("mine:mak", *BOTH), "has no attribute 'mak'"),
    "no function": (("mine:number",), "must be a function; got 3"),
    "three programs": (("mine:make", "mine:make_loop", "run.yaml"), "one or two programs; got 3"),
    "a misspelt key": ((*YAML, "--trainer.max_epoch", "3"), "max_epoch"),
    "a misspelt option of the trainer": (
        ("mine:make", *BOTH, "--trainer.max_epoch", "3"),
        "unknown argument 'max_epoch'",
    ),
    "a key without a file": (("mine:make", *BOTH, "--spec.optimizer.lr", "3"), "has no effect without a YAML file"),
    "steps in words": ((*YAML, "--steps", "few"), "--steps must be a whole number; got 'few'"),
    "a timeout in words": ((*YAML, "--timeout", "soon"), "--timeout must be a number of seconds; got 'soon'"),
    "no time": ((*YAML, "--timeout", "0"), "timeout must be a number of seconds"),
    "an option without a value": ((*YAML, "--steps"), "--steps needs a value"),
    "an option twice": ((*YAML, "--steps", "1", "--steps", "2"), "--steps is given twice"),
    "overwrite alone": ((*YAML, "--overwrite"), "--overwrite has no effect"),
    "a checkpoint and a seed": (("run.ckpt", "run.ckpt", "--seed", "1"), "--seed has no effect on two checkpoints"),
    "a checkpoint and steps": (("run.ckpt", "run.ckpt", "--steps", "1"), "steps has no effect on two checkpoints"),
    "a checkpoint and a trainer": (("run.ckpt", "run.ckpt", "--trainer.max_epochs", "1"), "has no effect"),
    "a checkpoint and a function": (("run.ckpt", "mine:make"), "two checkpoints"),
    "one checkpoint": (("run.ckpt",), "two checkpoints"),
    "an existing file": ((*YAML, "--json", "run.yaml"), "run.yaml already exists"),
    "a folder for a file": ((*YAML, "--report", "folder"), "folder"),
    "one file for two": ((*YAML, "--json", "out", "--report", "out"), "--json and --report name the same file"),
    "a file in place of a folder": ((*YAML, "--json", "run.yaml/out.json"), "could not be written"),
    "a file for the tensors": ((*YAML, "--bisect", "run.yaml"), "could not be written"),
    "a file of LightningCLI": (("--config", "lightning.yaml"), "a file of a framework's own command line"),
    "a module that fails": (("broken:make",), "'broken:make' could not be imported: ZeroDivisionError"),
    "trackers": (("mine:make", *BOTH, "--trainer.loggers", "[]"), "a side writes no logs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_before_anything_runs(name, run, project, monkeypatch):
    monkeypatch.setattr(launch, "in_process", lambda *_: pytest.fail("a side was started"))
    (project / "run.ckpt").write_bytes(b"")
    (project / "broken.py").write_text("1 / 0\n")
    (project / "folder").mkdir()
    (project / "lightning.yaml").write_text("seed_everything: 1\nmodel: {class_path: mine.Net}\n")
    before = files(project)
    given, text = REFUSED[name]
    status, out, err = run(*given)
    assert (status, out) == (2, "")
    assert err.startswith("unitrain compare: ")
    assert text in err
    assert "Traceback" not in err
    assert "Hint: " in err
    assert files(project) == before


def test_files_are_written_though_nobody_reads_the_output(run, project, monkeypatch):
    def broken(*_, **__):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr("builtins.print", broken)
    with pytest.raises(BrokenPipeError, match="nobody reads"):  # no status: 1 would say that the sides differ
        run("mine:make", *BOTH, "--steps", "1", "--json", "out.json")
    assert json.loads((project / "out.json").read_text())["equal"] is True


def test_a_program_that_returns_something_else_is_told_what_to_return(run, project):
    (project / "wrong.py").write_text("def make():\n    return 3\n")
    status, out, _ = run("wrong:make", *BOTH)
    assert status == 2
    assert "must return (spec, train)" in " ".join(out.split())


def test_help_shows_the_options():
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--help"])
    assert ended.value.code == 0
