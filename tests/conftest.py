"""What holds for all tests: one thread for torch, a Ctrl-C that is heard, a repository that stays clean, and no GPU tests
without a GPU."""

import os
import signal

import pytest
import torch

# the models are tiny, and pytest-xdist has the cores already
torch.set_num_threads(1)

# A shell lets its background jobs ignore Ctrl-C, and so do all that they start; a CI may well run there.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NEEDS_GPU = "needs a GPU, and torch finds none; `make test-gpu` runs it where there is one"
REQUIRED = "UNITRAIN_GPU"
"""Set by `make test-gpu`: there, a GPU that torch does not find is an error."""


def pytest_collection_modifyitems(items):
    """Skip the tests marked ``gpu`` where there is no GPU, unless it was asked for."""
    for item in items:
        if item.get_closest_marker("gpu") is None:
            continue
        if torch.cuda.is_available():
            # what a driver, or a torch built for CUDA, warns of differs from machine to machine
            item.add_marker(pytest.mark.filterwarnings("default"))
        elif os.environ.get(REQUIRED):
            raise pytest.UsageError(
                f"torch {torch.__version__} finds no GPU; install its build for your CUDA into .venv"
            )
        else:
            item.add_marker(pytest.mark.skip(reason=NEEDS_GPU))


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
