"""Whatever a spec does, backends that are equal are found equal; each case of the conformance suite is one."""

from dataclasses import replace

import pytest

from unitrain.testing.comparison.compare import compare
from unitrain.testing.conformance import ALL, TABLES

pytestmark = pytest.mark.usefixtures("here")
SEED = 1234
QUICK = ("adversarial", "noisy", "stream", "several-validations", "mlp-lbfgs-step", "16-mixed-adversarial-clipped")
"""Several optimizers, random numbers, data without a length, closures, a scaled loss."""


def program(case):
    """Return the program of a case; what a case does with its trainer is left out."""

    def make():
        val = None if case.val is None else case.val()
        return case.spec(), case.train(), val, {"max_epochs": 3, "seed": SEED, **case.options}

    return make


def cases():
    breadth = {case.name for table, some in TABLES.items() if table not in ("matrix", "precision") for case in some}
    for name in (*QUICK, *sorted(breadth - {*QUICK})):
        yield pytest.param(replace(ALL[name], act=None), id=name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.filterwarnings("ignore:TerminateOnNaN")
@pytest.mark.parametrize("case", [*cases()])
def test_equal_backends_are_found_equal(case):
    result = compare(program(case), frameworks=["reference", "ignite", "lightning"], seed=SEED)
    assert result.equal, str(result)
    assert result.steps > 0
    assert result.notes == ()
