"""The reference: each public name has an entry that says what goes in, what comes out and what can fail."""

import inspect
import re
from enum import Enum

import pytest

import unitrain
from docs._ext import commands, reference
from unitrain.cli.commands import COMMANDS

FUNCTIONS = [name for name in unitrain.__all__ if inspect.isfunction(getattr(unitrain, name))]
CLASSES = [
    name
    for name in unitrain.__all__
    if inspect.isclass(getattr(unitrain, name)) and not issubclass(getattr(unitrain, name), (Enum, BaseException))
]


def parameters(thing):
    return [name for name in inspect.signature(thing).parameters if name not in {"self", "cls"}]


def undocumented(names, text):
    return [name for name in names if not re.search(rf"^\s+\**{name}: \S", text, re.MULTILINE)]


def test_each_public_name_is_on_one_page(tmp_path):
    made = reference.copy(tmp_path)
    text = "".join((tmp_path / f"{name}.rst").read_text() for name in made)
    assert sorted(re.findall(r"^\.\. [\w:]+:: unitrain\.(\w+)$", text, re.MULTILINE)) == sorted(unitrain.__all__)


@pytest.mark.parametrize("change", [("brand_new",), ()], ids=["new", "gone"])
def test_a_name_without_a_page_is_an_error(change, monkeypatch, tmp_path):
    monkeypatch.setattr(unitrain, "__all__", [*unitrain.__all__[1 - len(change) :], *change])
    with pytest.raises(LookupError, match="brand_new" if change else "BackendNotInstalledError"):
        reference.copy(tmp_path)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_documents_its_arguments_its_result_and_its_errors(name):
    thing = getattr(unitrain, name)
    text = inspect.getdoc(thing)
    assert not undocumented(parameters(thing), text)
    assert thing.__annotations__["return"] in {"None", None} or "\nReturns:\n" in text
    assert "\nRaises:\n" in text
    assert "\nExample:\n" in text


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_documents_what_it_is_made_of(name):
    thing = getattr(unitrain, name)
    if name not in reference.MADE_BY_UNITRAIN:
        assert not undocumented(parameters(thing), inspect.getdoc(thing))


def test_what_is_not_documented_is_noticed():
    assert undocumented(["path", "depth"], "Args:\n    path: A file.\n") == ["depth"]


def test_the_page_of_the_commands_has_the_help_of_each(tmp_path):
    text = (tmp_path / f"{commands.copy(tmp_path)}.md").read_text()
    assert re.findall(r"^## `unitrain (.*)`$", text, re.MULTILINE) == list(COMMANDS)
    shown = re.findall(r"^```text\nusage: (.*)", text, re.MULTILINE)
    assert [line.split()[1] for line in shown[1:]] == list(COMMANDS)
