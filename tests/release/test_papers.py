"""Citation, security and the forms for issues say what is so."""

import re
import tomllib

import pytest
import yaml

import unitrain
from tests.release.building import PROJECT, ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
PAGES = ("SECURITY.md", "CODE_OF_CONDUCT.md", "docs/policy.md", ".github/pull_request_template.md")


def test_the_citation_is_of_this_version():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(told["version"]) == unitrain.__version__
    assert told["license"] == PROJECT["license"]
    assert told["keywords"] == PROJECT["keywords"]
    assert [one["name"] for one in told["authors"]] == [one["name"] for one in PROJECT["authors"]]


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_forms_ask_for_commands_that_exist():
    from unitrain.cli.commands import COMMANDS

    text = "".join(path.read_text() for path in FORMS) + (ROOT / "SECURITY.md").read_text()
    named = set(re.findall(r"`unitrain (\w[\w-]*)", text))
    assert "doctor" in named
    assert named <= COMMANDS.keys()


def test_the_backends_of_the_form_are_those_that_are_shipped():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    (asked,) = (one for one in form["body"] if one.get("id") == "backend")
    assert asked["attributes"]["options"] == [*PROJECT["entry-points"]["unitrain.adapters"], "another"]


def test_the_policy_and_the_code_promise_the_same_time():
    from unitrain.compat import deprecation

    assert deprecation._MINOR_RELEASES == 2
    assert "at least two minor releases" in (ROOT / "docs/policy.md").read_text()


def test_the_example_of_a_deprecation_is_one():
    from unitrain.session.trainer_controls import TrainerControls

    told = " ".join((ROOT / "docs/policy.md").read_text().split())
    assert str(TrainerControls.bridged.fget.__deprecation__) in told


def test_dangerous_releases_are_those_that_are_refused():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["lightning"]
    for version in re.findall(r"!=([\d.]+)", pins[0]):
        assert version in (ROOT / "SECURITY.md").read_text()
