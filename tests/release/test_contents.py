"""What the wheel and the sdist hold: all that users need, and nothing else."""

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser

import pytest
from packaging.requirements import Requirement

import unitrain
from tests.release import building
from tests.release.building import EXTRAS, PACKAGES, PROJECT, ROOT

INFO = f"pytorch_unitrain-{unitrain.__version__}.dist-info"


@pytest.fixture(scope="module")
def held(wheel):
    """Return the files of the wheel by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(held):
    return Parser().parsestr(held[f"{INFO}/METADATA"].decode())


def test_the_wheel_holds_all_that_is_beside_the_code_and_nothing_else(held):
    assert {name: content for name, content in held.items() if not name.startswith(INFO)} == building.sources()
    own = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert {name.removeprefix(f"{INFO}/") for name in held if name.startswith(INFO)} == own


def test_types_pages_and_templates_are_among_it(held):
    assert {f"{package}/py.typed" for package in PACKAGES} <= held.keys()
    assert {f"unitrain/serving/page/page.{suffix}" for suffix in ("html", "css", "js")} <= held.keys()
    assert not [name for name in held if re.search(r"(^|/)(tests?|conftest\.py|__pycache__)(/|$)|\.pyc$", name)]


def test_the_metadata_says_what_pyproject_says(metadata, held):
    assert metadata["Name"] == PROJECT["name"] == "pytorch-unitrain"
    assert metadata["Version"] == unitrain.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert held[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert metadata.get_all("Classifier") == PROJECT["classifiers"]
    assert metadata.get_all("Provides-Extra") == sorted(EXTRAS)
    assert "py3-none-any" in held[f"{INFO}/WHEEL"].decode()


def required(told, extra):
    """Return what is installed for an extra, or for none, here: names with their versions."""
    every = map(Requirement, told)
    return {
        (one.name, str(one.specifier), frozenset(one.extras))
        for one in every
        if one.marker is None or one.marker.evaluate({"extra": extra})
    }


def test_each_extra_requires_what_pyproject_says(metadata):
    told = metadata.get_all("Requires-Dist")
    base = required(PROJECT["dependencies"], "")
    assert required(told, "") == base
    assert required(told, "all") == set().union(*(required(told, one) for one in Requirement(EXTRAS["all"][0]).extras))
    for extra in EXTRAS.keys() - {"all"}:
        assert required(told, extra) == base | required(EXTRAS[extra], extra), extra


def test_the_extra_all_has_every_other_but_those_for_developers():
    (every,) = (Requirement(one) for one in EXTRAS["all"])
    assert every.name == PROJECT["name"]
    assert every.extras == EXTRAS.keys() - {"all", "testing", "lightning-monorepo"}


def test_the_entry_points_can_be_loaded(held):
    told = configparser.ConfigParser(delimiters=("=",))
    told.optionxform = str
    told.read_string(held[f"{INFO}/entry_points.txt"].decode())
    groups = {group: dict(told[group]) for group in told.sections()}
    assert groups.pop("console_scripts") == PROJECT["scripts"] == {"unitrain": "unitrain.cli:main"}
    assert groups == PROJECT["entry-points"]
    for names in groups.values():
        for target in names.values():
            assert f"{target.partition(':')[0].replace('.', '/')}" in {
                name.removesuffix(".py").removesuffix("/__init__") for name in held
            }


def test_a_build_from_the_sdist_gives_the_same_bytes(sdist, wheel, tmp_path):
    again = building.build("wheel", building.unpacked(sdist, tmp_path / "tree"), tmp_path / "wheel")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_sdist_holds_what_is_needed_to_test_it_and_no_leftovers(sdist):
    with tarfile.open(sdist) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    tops = {name.partition("/")[0] for name in names}
    assert tops - {"PKG-INFO", ".gitignore"} == {
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "DISTRIBUTED.md",
        "LICENSE",
        "MIGRATION.md",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "adapters",
        "constraints.txt",
        "docs",
        "examples",
        "pyproject.toml",
        "tests",
        "unitrain",
    }
    assert {"tests/release/test_contents.py", "examples/quickstart.py", "docs/policy.md"} <= names
    left = re.compile(r"\.(pyc|ckpt|log)$|__pycache__|(^|/)runs/|\.venv|\.tox|\.site|_cache/")
    assert [one for one in names if left.search(one) and not one.startswith("tests/checkpoint/golden/")] == []


def test_the_usual_mistakes_of_wheels_are_not_made(wheel):
    done = subprocess.run(
        [sys.executable, "-m", "check_wheel_contents", str(wheel)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["a file that is not built", "a test beside the code"])
def test_a_fault_is_noticed(fault, tmp_path):
    tree = building.copied_tree(tmp_path / "tree")
    if fault == "a file that is not built":
        project = tree / "pyproject.toml"
        text = project.read_text().replace(
            "[tool.hatch.build.targets.wheel]",
            '[tool.hatch.build]\nexclude = ["*.css"]\n\n[tool.hatch.build.targets.wheel]',
        )
        project.write_text(text)
    else:
        (tree / "unitrain" / "conftest.py").write_text("")
    with zipfile.ZipFile(building.build("wheel", tree, tmp_path / "wheel")) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert {name: content for name, content in held.items() if not name.startswith(INFO)} != building.sources()
