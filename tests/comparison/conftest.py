import pytest

from unitrain.testing.comparison import launch
from unitrain.testing.comparison.side import run_side


@pytest.fixture
def here(monkeypatch):
    """Run the sides in this process: a process of its own takes some seconds, and its start has tests of its own."""
    monkeypatch.setattr(launch, "in_process", lambda program, orders: run_side(program, orders, lambda _: None))
