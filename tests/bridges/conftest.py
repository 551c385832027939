import functools

# first of all: what they import draws from Python's random, so a script that is the first to import them ends elsewhere
import ignite.engine
import lightning.pytorch
import pytest
import pytorch_lightning

from tests.bridges.running import natively

__all__ = ["ignite", "lightning", "pytorch_lightning"]


@pytest.fixture(scope="session")
def native():
    """Return the trace of a script on its own framework; each is run once."""
    return functools.cache(natively)
