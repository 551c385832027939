"""The way of the resume tests: what the rest of a run is compared with."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def resume():
    path = Path(__file__).parents[1] / "checkpoint" / "test_resume.py"
    found = importlib.util.spec_from_file_location("resume", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
