"""What is released, built once per process."""

import pytest

from tests.release import building


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Return the path of the wheel."""
    return building.build("wheel", building.ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def sdist(tmp_path_factory):
    """Return the path of the sdist."""
    return building.build("sdist", building.ROOT, tmp_path_factory.mktemp("sdist"))
