"""Unchanged LightningModules and Ignite programs are compared on each backend too."""

import pytest

from tests.comparison import native
from unitrain.testing.comparison.compare import compare

BACKENDS = ("reference", "ignite", "lightning")
pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("make", [native.module, native.engine], ids=["lightning", "ignite"])
def test_the_backends_are_equal(make):
    result = compare(make, frameworks=BACKENDS)
    assert result.equal, str(result)
    assert result.steps == 12
    assert {"gradient", "parameters", "optimizer state", "metrics"} <= {*result.compared}


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_ulp_in_a_gradient_of_a_module_is_named(backend):
    result = compare(native.module, native.faulty_module, frameworks=(backend,))
    assert result.status == "different", str(result)
    one = result.difference
    assert (one.step, one.phase, one.place, one.ulp) == (4, "gradient", "net.4.weight[1, 2]", 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_ulp_in_a_gradient_of_an_engine_is_named(backend):
    one = compare(native.engine, native.faulty_engine, frameworks=(backend,)).difference
    assert (one.step, one.phase, one.place, one.ulp) == (4, "gradient", "param_groups[0][4][1, 2]", 1)
