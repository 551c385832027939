"""Faults in what compares are noticed: each makes a test of this folder fail, or is named at another place."""

import pytest
import torch

from tests.comparison import loops, programs
from unitrain.testing.comparison import bits, diagnosis, record, spec_observer, state
from unitrain.testing.comparison.compare import compare
from unitrain.testing.comparison.recorder import Recorder

pytestmark = pytest.mark.usefixtures("here")


def test_one_ulp_is_missed_if_nobody_looks_at_gradients(monkeypatch):
    """Adam's moments round it away, so that all that follows is equal."""
    monkeypatch.setattr(spec_observer.SpecObserver, "_gradients", lambda *_: None)
    assert compare(programs.make, programs.faulty_gradient).equal


def test_a_digest_of_rounded_values_misses_the_fault(monkeypatch):
    real = bits.digest
    rounded = lambda named: real((name, one.half() if isinstance(one, torch.Tensor) else one) for name, one in named)  # noqa: E731
    monkeypatch.setattr("unitrain.testing.comparison.recorder.digest", rounded)
    one = compare(programs.make, programs.faulty_gradient).difference
    assert one is None or one.step > 4


def test_nan_by_its_bits_is_a_false_alarm(monkeypatch):
    quiet = torch.tensor([torch.nan])
    other = (quiet.view(torch.int32) | 1).view(torch.float32)
    assert bits.digest([("", quiet)]) == bits.digest([("", other)])
    monkeypatch.setattr(bits, "_one_nan", lambda value: value)
    assert bits.digest([("", quiet)]) != bits.digest([("", other)])


def test_random_states_that_nobody_looks_at_are_noticed_by_what_they_change(monkeypatch):
    monkeypatch.setattr(state, "random_states", lambda: iter(()))
    monkeypatch.setattr("unitrain.testing.comparison.calls.random_states", lambda: iter(()))
    one = compare(programs.make, programs.draws_once_more).difference
    assert (one.step, one.phase, one.kind) == (4, "forward", "output")  # dropout


def test_a_record_that_is_not_compared_on_the_way_runs_to_its_end(monkeypatch):
    monkeypatch.setattr(Recorder, "_parts", lambda *_: False)
    result = compare(programs.make, programs.faulty_gradient)
    assert result.sides[1].status == "finished"
    assert result.difference.step == 4  # the records are compared again at the end


def test_a_loop_whose_batches_keep_their_place_is_a_false_alarm(monkeypatch):
    assert compare(loops.loop, programs.make).equal
    keep = lambda entries, kinds, *, loop: [one for one in entries if one[0] in kinds]  # noqa: E731
    monkeypatch.setattr(record, "aligned", keep)
    monkeypatch.setattr(diagnosis, "aligned", keep)
    assert compare(loops.loop, programs.make).difference.phase == "order"
