import functools
import os

# first of all: what they import draws from Python's random, so a script that is the first to import them ends elsewhere
import ignite.engine
import lightning.pytorch
import pytest
import pytorch_lightning

from tests.bridges.running import natively
from tests.peers.plain_path import plain_path

__all__ = ["ignite", "lightning", "pytorch_lightning"]


@pytest.fixture(scope="session")
def native():
    """Return the trace of a script on its own framework; each is run once."""
    return functools.cache(natively)


@pytest.fixture(autouse=True, scope="session")
def _path():
    """Take the plain path in all of these tests if the variable PLAIN_PATH is set."""
    if not os.environ.get("PLAIN_PATH"):
        yield
        return
    with plain_path():
        yield
