import functools

import pytest

from tests.bridges.running import natively


@pytest.fixture(scope="session")
def native():
    """Return the trace of a script on its own framework; each is run once."""
    return functools.cache(natively)
