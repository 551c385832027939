"""The workflows of GitHub: valid, pinned, with no more permissions than they need, and calling what exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner

from tests.release.building import PROJECT, ROOT

FOLDER = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in sorted((FOLDER / "workflows").glob("*.yml"))}
PINNED = re.compile(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*$")
MAKE = re.compile(r"\bmake ([a-z-]+)")
SCHEMAS = {
    "github-workflows": [*WORKFLOWS.values()],
    "dependabot": [FOLDER / "dependabot.yml"],
    "github-issue-config": [FOLDER / "ISSUE_TEMPLATE/config.yml"],
    "github-issue-forms": [one for one in FOLDER.glob("ISSUE_TEMPLATE/*.yml") if one.name != "config.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


def read(name):
    found = yaml.safe_load(WORKFLOWS[name].read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads `on` as a truth
    return found


def steps(name):
    return [step for job in read(name)["jobs"].values() for step in job["steps"]]


def commands(name):
    return [step["run"] for step in steps(name) if "run" in step]


def test_there_are_those_that_a_release_needs():
    assert WORKFLOWS.keys() >= {"ci", "matrix", "docs", "release"}
    assert commands("ci") == [".ci/run"]


def fits(schema, paths):
    """Return what the checker prints where a file does not fit a schema, and "" where all do."""
    done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", *map(str, paths)])
    return done.output if done.exit_code else ""


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_schema(schema, tmp_path):
    assert SCHEMAS[schema]
    assert fits(schema, SCHEMAS[schema]) == ""
    broken = tmp_path / "broken.yml"
    broken.write_text(SCHEMAS[schema][0].read_text() + "\nmade-up: [1]\n")
    assert "made-up" in fits(schema, [broken])


def test_an_auditor_finds_nothing():
    command = [
        str(Path(sys.executable).parent / "zizmor"),
        "--offline",
        "--no-progress",
        "--persona",
        "pedantic",
        ".github",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", WORKFLOWS)
def test_each_action_is_pinned_to_a_commit(name):
    used = [line.strip().removeprefix("- ") for line in WORKFLOWS[name].read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not PINNED.search(line)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_permissions_are_the_least(name):
    found = read(name)
    assert found["permissions"] == {"contents": "read"}
    given = {job: one["permissions"] for job, one in found["jobs"].items() if "permissions" in one}
    assert given == {
        "docs": {"publish": {"pages": "write", "id-token": "write"}},
        "release": {"publish": {"id-token": "write"}},
    }.get(name, {})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_secret_and_no_text_of_others_is_run(name):
    text = WORKFLOWS[name].read_text()
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert all("${{" not in command for command in commands(name))
    assert all("timeout-minutes" in job for job in read(name)["jobs"].values())
    kept = [step["with"]["persist-credentials"] for step in steps(name) if "checkout" in step.get("uses", "")]
    assert not any(kept)


def test_each_target_of_make_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {target for name in WORKFLOWS for command in commands(name) for target in MAKE.findall(command)}
    assert called >= {"matrix", "site", "build"}
    assert called <= targets


def test_the_matrix_has_every_cell_of_tox():
    tox = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tox"]
    (job,) = read("matrix")["jobs"].values()
    assert ["base", *job["strategy"]["matrix"]["cell"]] == tox["env_list"]


def test_the_versions_of_python_are_those_of_the_classifiers():
    (job,) = read("ci")["jobs"].values()
    told = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", one)]
    assert job["strategy"]["matrix"]["python"] == told


def test_only_a_tag_is_published_by_the_job_that_has_built_nothing():
    release = read("release")
    assert release["on"] == {"push": {"tags": ["v*"]}}
    build, publish = release["jobs"]["build"], release["jobs"]["publish"]
    assert "permissions" not in build
    assert (publish["needs"], publish["environment"]) == ("build", "pypi")
    assert ["download-artifact" in publish["steps"][0]["uses"], "pypi-publish" in publish["steps"][1]["uses"]] == [
        True,
        True,
    ]
    assert "with" not in publish["steps"][1]  # no password, no other index


def test_a_tag_of_another_version_is_refused(tmp_path):
    (guard,) = (step["run"] for step in steps("release") if "tag" in step.get("name", ""))
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "pytorch_unitrain-0.2.0-py3-none-any.whl").touch()
    for tag, status in {"v0.2.0": 0, "v0.2.1": 1, "0.2.0": 0, "v0.2": 1}.items():
        done = subprocess.run(["bash", "-c", guard], cwd=tmp_path, env={"GITHUB_REF_NAME": tag}, check=False)
        assert done.returncode == status, tag
