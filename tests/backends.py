"""What tests on every backend share: their names, and Ignite imported without the warnings of its imports."""

from __future__ import annotations

import warnings

import pytest

FRAMEWORKS = ("reference", "lightning", "ignite")

with warnings.catch_warnings():  # torch.distributed, which Ignite imports, still uses torch.jit.script
    warnings.simplefilter("ignore", DeprecationWarning)
    import ignite.engine  # noqa: F401


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    """Run a test on each backend."""
    return request.param


def one_quickly(quick, names=FRAMEWORKS):
    """Return ``names`` for ``parametrize``: one in the quick tier, the others in the slow one."""
    return [name if name == quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
