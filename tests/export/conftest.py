"""One training of each model on each backend, shared by all tests of exports."""

import pytest

from tests.export.models import trained

BACKENDS = ("lightning", "ignite")


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Return what trains a model on a backend once: ``runs("mlp", "ignite") -> (trainer, checkpoint)``."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def run(name, backend):
        if (name, backend) not in done:
            done[name, backend] = trained(name, backend, folder)
        return done[name, backend]

    return run
