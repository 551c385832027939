"""`unitrain init`: what it writes, and what it refuses."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unitrain import cli
from unitrain.cli.doctor.findings import Backend
from unitrain.cli.project import init

TEMPLATES = Path(init.__file__).with_name("templates")
NAMES = {".gitignore", "README.md", "data.py", "model.py", "run.yaml", "test_training.py"}
MORE = {"digits": set(), "tabular": {"rides.csv"}, "text": {"text.txt"}}
NEXT = """
Next:
  cd demo
  unitrain fit --config run.yaml                     # train on 'lightning'
  unitrain fit --config run.yaml --framework ignite  # train the same on 'ignite'
  unitrain compare --config run.yaml                 # compare the backends, bit by bit
  pytest                                             # one step on each backend
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return {one.name for one in folder.iterdir()}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_template_has_a_folder():
    assert names(TEMPLATES) - {"__pycache__"} == {*init.TEMPLATES, "common"}


@pytest.mark.parametrize("template", init.TEMPLATES)
def test_a_template_is_written(template, folder, capsys):
    assert cli.main(["init", "demo", "--from", template]) == 0
    demo = folder / "demo"
    assert names(demo) == NAMES | MORE[template]
    assert compileall.compile_dir(demo, quiet=2)
    test = (demo / "test_training.py").read_text()
    assert "$" not in test
    assert max(map(len, test.splitlines())) <= 120
    configuration = yaml.safe_load((demo / "run.yaml").read_text())
    assert configuration["framework"] == "lightning"
    assert configuration["spec"]["model"]["class_path"] == "model.Net"
    printed = capsys.readouterr().out
    assert printed.endswith(NEXT)


def test_the_default_is_digits_in_the_current_folder(folder, capsys):
    assert cli.main(["init"]) == 0
    assert names(folder) == NAMES
    assert (folder / "model.py").read_bytes() == (TEMPLATES / "digits/model.py").read_bytes()
    assert "cd " not in capsys.readouterr().out


def test_a_folder_with_other_files_is_taken(folder):
    (folder / "notes.txt").write_text("mine")
    assert cli.main(["init", "."]) == 0
    assert names(folder) == NAMES | {"notes.txt"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_file_is_overwritten(name, folder, capsys):
    (folder / name).write_text("mine")
    assert cli.main(["init"]) == 1
    assert contents(folder) == {Path(name): b"mine"}
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"unitrain init: . already has {name}; unitrain init overwrites nothing.\n"
        "Hint: choose another folder: unitrain init FOLDER\n"
    )


def test_a_link_to_nowhere_is_not_followed(folder):
    (folder / "data.py").symlink_to(folder / "elsewhere.py")
    assert cli.main(["init"]) == 1
    assert not (folder / "elsewhere.py").exists()


def test_a_file_that_another_process_writes_meanwhile_stays(folder, monkeypatch, capsys):
    (folder / "model.py").write_text("theirs")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    assert cli.main(["init"]) == 1
    assert contents(folder) == {Path("model.py"): b"theirs"}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(where, folder, capsys):
    (folder / "file").write_text("mine")
    assert cli.main(["init", where]) == 1
    assert contents(folder) == {Path("file"): b"mine"}
    assert "Hint: " in capsys.readouterr().err


def test_an_unknown_template_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["init", "--from", "images"])
    assert end.value.code == 2
    assert not names(folder)
    assert "digits" in capsys.readouterr().err


@pytest.mark.parametrize(("ready", "framework"), [(["reference"], "reference"), (["ignite", "reference"], "ignite")])
def test_it_uses_what_is_installed(ready, framework, folder, monkeypatch, capsys):
    every = [Backend(one, one in ready, "", "", "") for one in ("ignite", "lightning", "reference")]
    monkeypatch.setattr(init, "backends", lambda: every)
    assert cli.main(["init"]) == 0
    assert yaml.safe_load((folder / "run.yaml").read_text())["framework"] == framework
    printed = capsys.readouterr().out
    assert f"train on {framework!r}" in printed
    assert ("unitrain compare" in printed) == (len(ready) > 1)
    assert "lightning" not in printed


def test_no_framework_is_imported(folder):
    code = "import sys; from unitrain import cli; cli.main(['init']); print({'torch', 'ignite'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


# --- the projects -----------------------------------------------------------------------------------------------------


def run_its_tests(folder):
    """Run the tests of a project, as its README says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("template", [pytest.param(one, marks=pytest.mark.slow) for one in init.TEMPLATES])
def test_its_tests_pass(template, folder):
    cli.main(["init", ".", "--from", template])
    done = run_its_tests(folder)
    assert "4 passed" in done.stdout, done.stdout


@pytest.mark.slow
def test_its_tests_notice_a_difference(folder):
    """A model whose weights do not come from the seed is not the same twice."""
    cli.main(["init", "."])
    model = folder / "model.py"
    model.write_text(model.read_text().replace("super().__init__()", "super().__init__(); torch.seed()"))
    model.write_text(model.read_text().replace("from torch", "import torch\nfrom torch", 1))
    done = run_its_tests(folder)
    assert done.returncode == 1
    assert "2 failed" in done.stdout, done.stdout
