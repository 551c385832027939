"""What holds for all tests: one thread for torch, a Ctrl-C that is heard, and a repository that stays clean."""

import signal

import pytest
import torch

# the models are tiny, and pytest-xdist has the cores already
torch.set_num_threads(1)

# A shell lets its background jobs ignore Ctrl-C, and so do all that they start; a CI may well run there.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OF_TOOLS = (".", "build", "dist", "htmlcov")


def _names(folder):
    return {one.name for one in folder.iterdir() if not one.name.startswith(_OF_TOOLS)}


@pytest.fixture(autouse=True)
def clean_repository(request):
    """Fail a test that leaves something in the root of the repository: a run's files go to ``tmp_path``."""
    before = _names(request.config.rootpath)
    yield
    left = _names(request.config.rootpath) - before
    assert not left, f"left in the root of the repository: {sorted(left)}"
