"""docs/compare.md: its program runs, and its tables name all fields."""

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from unitrain import Comparison, compare
from unitrain.testing.comparison.difference import Difference
from unitrain.testing.comparison.kinds import LENGTH, ORDER, PHASES
from unitrain.testing.comparison.outcome import Side

PAGE = (Path(__file__).parents[2] / "docs/compare.md").read_text()


@pytest.mark.usefixtures("here")
def test_the_program_of_the_page_is_equal_to_its_loop(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "train.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("compared_page", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compared_page", module)
    spec.loader.exec_module(module)
    result = compare(module.make_loop, module.make, frameworks=("lightning", "ignite"))
    assert result.equal
    assert result.steps == 16


def test_the_page_names_all_fields_of_the_json():
    part = PAGE.partition("## JSON")[2]
    named = set(re.findall(r"`(\w+)`", part))
    keys = Comparison(sides=(), steps=0).as_dict().keys()
    assert {*keys, *(one.name for one in fields(Side)), *(one.name for one in fields(Difference))} <= named


def test_the_page_names_all_phases():
    table = PAGE.partition("## What is compared")[2].partition("##")[0]
    assert {phase for phase in PHASES.values() if phase not in table} == set()
    doc = " ".join(Difference.__doc__.split())
    assert {phase for phase in (*PHASES.values(), LENGTH, ORDER) if f'``"{phase}"``' not in doc} == set()
