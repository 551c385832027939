"""Backends are equal on a device as they are on the host: every bit, of whatever the conformance suite trains."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from tests.gpu.training import on
from unitrain import Event
from unitrain.testing import cases
from unitrain.testing.conformance import TABLES, trains
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, differences, record

BACKENDS = ("ignite", "lightning")
CASES = {
    f"{model}, {precision}": Case(
        name=model,
        spec=partial(cases.spec, model, "adamw", "step"),
        train=loader,
        val=partial(loader, shuffle=False, samples=10),
        options={"precision": precision, "gradient_clip_val": 0.5, "accumulate_grad_batches": 2},
    )
    for model in ("mlp", "cnn", "transformer", "tied")
    for precision in ("32-true", "bf16-mixed", "16-mixed", "bf16-true")
}


@cache
def reference(name, device):
    return record("reference", replace(CASES[name], options=on(device, CASES[name])))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_is_the_bare_loop_on_a_device(backend, name, device):
    expected = reference(name, device)
    assert trains(expected)
    assert {value.device for value in expected.weights.values()} == {device}
    found = record(backend, replace(CASES[name], options=on(device, CASES[name])))
    assert not differences(expected, found)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:TerminateOnNaN")
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_so_it_is_with_all_that_the_conformance_suite_trains(backend, table):
    """A table in one test: on the host each case has its own, in tests/conformance."""
    device, found = torch.device("cuda", 0), {}
    for case in TABLES[table]:
        placed = replace(case, options=on(device, case))
        try:
            expected = record("reference", placed)
        except Exception as error:  # noqa: BLE001 - all are told at the end
            found[case.name] = f"{type(error).__name__}: {error}"
            continue
        if different := differences(expected, record(backend, placed)):
            found[case.name] = different[0]
    assert not found


def test_what_is_compared_has_the_states_of_the_devices_generator(device):
    """Two runs that are equal in all else are not, if one has drawn once more on the device."""
    case = replace(CASES["mlp, 32-true"], options=on(device, CASES["mlp, 32-true"]))
    drawn = replace(case, act=lambda made: made.on(Event.FIT_END, lambda: torch.rand(1, device=device)))
    found = differences(reference("mlp, 32-true", device), record("reference", drawn))
    assert found
    assert all(one.startswith("rng") for one in found)
