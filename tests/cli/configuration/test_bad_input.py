"""Bad input: status 1, one message with the place, the key and the value, a hint; nothing is trained or written."""

import pytest

from tests.cli.configuration.bad_inputs import BAD, FILES
from tests.cli.configuration.conftest import everything

AS_TYPED = ("no-config", "no-optimizer")
"""The ones that run as processes in the quick tier; `--slow` runs all."""


@pytest.fixture
def folder(project):
    for name, content in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_bytes(content)
    return project


OF_A_FIT = ("no-optimizer", "no-loss", "several-optimizers", "an-infinite-rate", "output-of-a-fit")
"""What only a fit needs, or refuses."""


def require_told(bad, out, err):
    assert "Traceback" not in err
    message, _, hint = err[:-1].rpartition("\nHint: ")
    assert message.startswith(f"unitrain {bad.arguments[0]}: "), err
    assert "\n" not in message, "an error is one line"
    assert bad.said in message, err
    assert bad.hint in hint, err
    assert not out


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_input_is_told_and_changes_nothing(bad, folder, run):
    before = everything(folder)
    status, out, err = run(*bad.arguments)
    lines = err.splitlines(keepends=True)
    require_told(bad, out, "".join(one for one in lines if not one.startswith("note: ")))
    assert status == 1
    assert everything(folder) == before


@pytest.mark.parametrize(
    "name", [name if name in AS_TYPED else pytest.param(name, marks=pytest.mark.slow) for name in BAD]
)
def test_bad_input_is_told_to_who_types_it(name, folder, typed):
    before = everything(folder)
    done = typed(*BAD[name].arguments, expected=1)
    lines = done.stderr.splitlines(keepends=True)
    require_told(BAD[name], done.stdout, "".join(one for one in lines if not one.startswith("note: ")))
    assert everything(folder) == before


READ = [name for name, one in BAD.items() if one.arguments[0] == "fit" and name not in OF_A_FIT]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize("name", READ)
def test_every_command_that_reads_a_configuration_tells_bad_input(name, command, folder, run):
    bad = BAD[name]._replace(arguments=(command, *BAD[name].arguments[1:]))
    before = everything(folder)
    status, out, err = run(*bad.arguments)
    lines = err.splitlines(keepends=True)
    require_told(bad, out, "".join(one for one in lines if not one.startswith("note: ")))
    assert status == 1
    assert everything(folder) == before


def test_a_password_is_not_repeated(folder, run):
    assert "hunter2" not in run("fit", "--config", "password.yaml")[2]


def test_a_folder_that_cannot_be_written(folder, run):
    before = everything(folder)
    status, out, err = run(
        "fit", "--config", "run.yaml", "--trainer.default_root_dir", "/proc/self"
    )  # not by root either
    assert (status, out) == (1, "")
    assert "/proc/self/runs could not be written" in err
    assert everything(folder) == before


def test_a_file_in_place_of_the_runs(folder, run):
    (folder / "runs").write_text("mine")
    before = everything(folder)
    status, out, err = run("fit", "--config", "run.yaml")
    assert (status, out) == (1, "")
    assert "runs could not be written" in err
    assert everything(folder) == before
