"""``unitrain doctor``: real processes, with releases planted into their path."""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.compat.planted import ROOT, plant, python, ran
from unitrain import cli
from unitrain.cli.commands import COMMANDS
from unitrain.compat.windows import WINDOWS

PACKAGES = [one for one in sys.path if one.endswith("site-packages")]


@pytest.fixture
def front(tmp_path):
    """Return a folder for planted packages."""
    folder = tmp_path / "front"
    folder.mkdir()
    return folder


def doctor(*arguments, **place):
    return python("-m", "unitrain", "doctor", *arguments, **place)


def in_json(*arguments, **place):
    """Return the exit status and the report."""
    done = doctor("--json", *arguments, **place)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def here(front, capsys, monkeypatch):
    """Return what runs the command in this very process, with ``front`` in front of its path: a process takes seconds."""
    monkeypatch.syspath_prepend(str(front))

    def run(*arguments):
        status = cli.main(["doctor", "--json", *arguments])
        return status, json.loads(capsys.readouterr().out)

    return run


def one(report, part, name):
    return next(found for found in report[part] if found["name"] == name)


def test_this_installation_is_fine(here):
    status, report = here()
    assert status == 0
    assert report["status"] == "ok"
    assert report["findings"] == []
    assert {one["name"] for one in report["packages"]} == set(WINDOWS)
    assert {one["name"]: one["ready"] for one in report["backends"]} == {
        "ignite": True,
        "lightning": True,
        "reference": True,
    }


def test_the_schema_is_what_help_says(here, capsys):
    _, report = here()
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    said = capsys.readouterr().out
    assert report["schema"] == 1
    assert list(report) == [
        "schema",
        "status",
        "unitrain",
        "packages",
        "backends",
        "accelerators",
        "extras",
        "findings",
    ]
    for part in ("packages", "backends", "accelerators", "extras"):
        assert all(name in said for name in (part, *report[part][0]))
    assert all(word in said for word in ("exit status", "--strict", "malicious", "best effort"))


def test_a_planted_bad_version_is_told_and_never_imported(front):
    name, version = "lightning", "2.6.3+cpu"
    plant(front, name, version)
    status, report = in_json(front=[front])
    assert status == 1
    assert report["status"] == "failure"
    assert one(report, "packages", name)["standing"] == "dangerous"
    assert one(report, "backends", "lightning")["ready"] is False
    (finding,) = report["findings"]
    assert (finding["level"], finding["about"]) == ("failure", name)
    assert "GHSA-w37p-236h-pfx3, CVE-2026-44484" in finding["message"]
    assert "pip install" in finding["fix"]
    text = doctor(front=[front])
    assert text.returncode == 1
    assert f"failure: {name} {version} is a malicious upload" in text.stdout
    assert "dangerous" in text.stdout
    assert not ran(front)


def test_a_planted_mismatch_is_a_warning_which_strict_fails_for(front, here):
    plant(front, "lightning", "2.4.0", package=False)
    status, report = here()
    assert (status, report["status"]) == (0, "warning")
    told = {finding["message"]: finding["fix"] for finding in report["findings"]}
    fix = told["pytorch-lightning 2.6.6 and lightning 2.4.0 are different copies of Lightning."]
    assert fix == "pip install 'pytorch-lightning==2.6.6' 'lightning==2.6.6'"
    assert any("CVE-2026-58659" in message for message in told)  # 2.4.0 is below 2.6.6
    assert here("--strict")[0] == 1


@pytest.mark.parametrize(
    ("name", "version", "level", "standing"),
    [
        ("pytorch-lightning", "2.0.9", "warning", "best effort"),
        ("pytorch-lightning", "1.5.0", "failure", "outside"),
        ("pytorch-ignite", "0.4.8", "failure", "outside"),
        ("torchmetrics", "0.11.4", "warning", "best effort"),
        ("optuna", "2.10", "failure", "outside"),
    ],
)
def test_an_old_release_is_told_as_what_it_is(name, version, level, standing, front, here):
    plant(front, name, version, package=False)
    status, report = here()
    assert status == (level == "failure")
    assert one(report, "packages", name)["standing"] == standing
    assert any(found["level"] == level and version in found["message"] for found in report["findings"])


def test_an_extra_names_what_is_missing_and_the_command(front, here):
    plant(front, "optuna", "3.6.2", package=False)
    extra = one(here()[1], "extras", "tune")
    assert extra["installed"] is False
    assert extra["missing"] == ["optuna>=4.0"]
    assert extra["command"] == "pip install 'pytorch-unitrain[tune]'"


def scratch(folder, *hidden):
    """Return a folder with all that is installed here, but for the distributions in ``hidden``, as a path has it."""
    home = folder / "packages"
    home.mkdir()
    for entry in Path(PACKAGES[0]).iterdir():
        owner = entry.name.partition("-")[0].lower() if entry.name.endswith(".dist-info") else entry.name.lower()
        if owner not in hidden and entry.suffix != ".pth":
            (home / entry.name).symlink_to(entry)
    return home


FRAMEWORKS = ("pytorch_lightning", "lightning", "pytorch_ignite", "ignite")


def test_neither_framework_installed_is_a_warning_with_both_commands(tmp_path):
    home = scratch(tmp_path, *FRAMEWORKS)
    place = {"front": [home, ROOT, ROOT / "adapters"], "isolated": True, "cwd": tmp_path}
    status, report = in_json(**place)
    assert (status, report["status"]) == (0, "warning")
    assert {one["name"]: one["ready"] for one in report["backends"]} == {
        "ignite": False,
        "lightning": False,
        "reference": True,
    }
    assert one(report, "backends", "ignite")["told"] == "not installed: pip install 'pytorch-unitrain[ignite]'"
    (finding,) = report["findings"]
    assert "[lightning]" in finding["fix"]
    assert "[ignite]" in finding["fix"]
    assert one(report, "packages", "pytorch-lightning")["version"] is None
    text = doctor("--strict", **place)
    assert text.returncode == 1
    assert "pip install 'pytorch-unitrain[lightning]'" in text.stdout


def test_unitrain_without_its_metadata_is_a_failure(tmp_path):
    home = scratch(tmp_path, "pytorch_unitrain")
    status, report = in_json(front=[home, ROOT, ROOT / "adapters"], isolated=True, cwd=tmp_path)
    assert status == 1
    assert any(found["about"] == "pytorch-unitrain" for found in report["findings"])


def test_a_third_party_s_backend_is_listed_and_not_imported(front, here):
    plant(front, "other-backend", "1.2")
    (front / "other_backend-1.2.dist-info" / "entry_points.txt").write_text(
        "[unitrain.adapters]\nother = other_backend:Adapter\n"
    )
    _, report = here()
    found = one(report, "backends", "other")
    assert (found["distribution"], found["version"], found["ready"]) == ("other-backend", "1.2", True)
    assert not ran(front)


def test_no_framework_is_imported_to_look():
    code = "import sys; from unitrain.cli.doctor.examination import examine; examine(); print([n for n in ('pytorch_lightning', 'lightning', 'ignite', 'torchmetrics', 'optuna', 'mlflow') if n in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


def test_a_torch_that_cannot_be_imported_is_a_failure(front):
    (front / "torch").mkdir()
    (front / "torch" / "__init__.py").write_text("raise OSError('libtorch.so is missing')\n")
    status, report = in_json(front=[front])
    assert status == 1
    assert report["accelerators"] == [
        {"kind": "cpu", "available": False, "told": "torch cannot be imported: libtorch.so is missing"}
    ]


def test_it_is_a_command_and_brackets_are_shown(capsys):
    assert "doctor" in COMMANDS
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert distribution("pytorch-unitrain").version in shown
    assert "no problems found." in shown


@pytest.mark.parametrize(
    ("torch", "vision", "pinned", "told"),
    [
        ("2.13.0+cpu", "0.28.0", "2.13.0", True),
        ("2.13.0+cpu", "0.28.0+cu130", "2.13.0", True),
        ("2.13.0+cpu", "0.28.0+cpu", "2.12.0", True),
        ("2.13.0+cpu", "0.28.0+cpu", "2.13.0", False),
        ("2.13.0", "0.28.0", "2.13.0", False),
        ("2.13.0", "0.28.0+cu130", "2.13.0", False),
        ("2.13.0", "0.28.0+cpu", "2.13.0", True),
        ("2.13.0+cpu", "0.28.0+0af1b2c", "2.13.0", False),
    ],
)
def test_a_torchvision_of_another_build_is_told(here, front, monkeypatch, torch, vision, pinned, told):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    plant(front, "torch", torch, package=False)
    plant(front, "torchvision", vision, package=False)
    metadata = front / f"torchvision-{vision}.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + f"Requires-Dist: torch=={pinned}\n")
    _, report = here()
    found = [one for one in report["findings"] if one["about"] == "torchvision"]
    assert [one["level"] for one in found] == ["warning"] * told
    assert all(f"{vision} was not built for torch {torch}" in one["message"] for one in found)
