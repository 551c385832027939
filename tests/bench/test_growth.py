"""What a step costs does not grow with the run; with callbacks and metrics it grows by the same little for each."""

import pytest

from tests.bench import growth
from tests.bench.growth import Quiet, an_epoch, of_callbacks, of_metrics
from unitrain import Callback

EACH_CALLBACK, EACH_METRIC, EACH_FILE = 1, 11, 75
"""Python calls: of a callback its own method; of a metric itself and its mean, 4 of them torch's; of a file an epoch."""


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_an_epoch_costs_the_same_after_10_and_100(framework, tmp_path):
    an_epoch(framework, tmp_path, 2, 5)
    after_1, after_10, after_100 = (an_epoch(framework, tmp_path, epochs + 1, 5) for epochs in (1, 10, 100))
    assert abs(after_10 - after_1) <= 2
    assert abs(after_100 - after_1) <= 2


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_step_costs_the_same_after_10_and_400(framework, tmp_path):
    def ten_more(steps):
        return an_epoch(framework, tmp_path, 1, steps + 10) - an_epoch(framework, tmp_path, 1, steps)

    ten_more(1)
    # Lightning looks at the training once in 50 batches; as often in both
    assert abs(ten_more(410) - ten_more(10)) <= 10


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_checkpoint_costs_little_more_where_many_are_kept(framework, tmp_path):
    few, many = (an_epoch(framework, tmp_path / str(kept), 22, 1, kept=kept) for kept in (1, 20))
    assert many - few <= EACH_FILE * 19


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_each_callback_costs_one_call(framework):
    of_callbacks(framework, 1)
    one, ten, hundred = (of_callbacks(framework, number) for number in (1, 10, 100))
    assert ten - one == pytest.approx(9 * EACH_CALLBACK, abs=1)
    assert hundred - one == pytest.approx(99 * EACH_CALLBACK, abs=1)


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_each_metric_costs_the_same(framework):
    of_metrics(framework, 1)
    one, ten, hundred = (of_metrics(framework, number) for number in (1, 10, 100))
    assert ten - one <= 9 * EACH_METRIC + 1
    assert hundred - one <= 99 * EACH_METRIC + 1


def nothing(given):
    """Do nothing."""


class Rereading(Callback):
    """Reads the whole history after each epoch: what a run must not do."""

    def __init__(self):
        self.rows = []

    def on_epoch_end(self, run):
        """Read it."""
        self.rows.append(run.state.epoch)
        for row in self.rows:
            nothing(row)


def test_a_cost_that_grows_with_the_epochs_is_noticed(monkeypatch, tmp_path):
    made = growth.trainer
    monkeypatch.setattr(growth, "trainer", lambda name, callbacks, **rest: made(name, callbacks=[Rereading()], **rest))
    after_1, after_10 = (an_epoch("ignite", tmp_path, epochs + 1, 5) for epochs in (1, 10))
    assert after_10 - after_1 > 2


def test_a_cost_that_grows_with_the_square_of_the_callbacks_is_noticed(monkeypatch):
    def on_batch_end(self, run):
        for _ in run.hub.__dict__.setdefault("seen", set()) | {self}:
            nothing(self)
        run.hub.seen.add(self)

    monkeypatch.setattr(Quiet, "on_batch_end", on_batch_end)
    one, ten = (of_callbacks("ignite", number) for number in (1, 10))
    assert ten - one > 9 * EACH_CALLBACK + 1
