"""A server that is dead, hangs or answers errors does not change a run, and hardly prolongs it."""

from __future__ import annotations

import pickle
import re
import threading
import time

import psutil
import pytest
import torch

from tests.monitoring_servers import answering, eventually, get, hanging
from tests.servers import free_port
from unitrain import OTLPLogger, PrometheusLogger, StatsDLogger, UnifiedTrainer
from unitrain.loggers import reporter

PUSHING = {
    "pushgateway": lambda address: PrometheusLogger(pushgateway=f"http://{address}"),
    "otlp": lambda address: OTLPLogger(f"http://{address}"),
}
ALL = {**PUSHING, "statsd": StatsDLogger, "scrape": lambda _: PrometheusLogger(port=0)}
NOBODY = "ignore:.*datagrams of StatsDLogger were refused"  # nobody listens here, and that is not what is tested
NAMED = "unitrain monitoring", "unitrain /metrics"


@pytest.fixture(autouse=True)
def _no_thread_remains():
    yield
    eventually(lambda: not [one for one in threading.enumerate() if one.name in NAMED], seconds=5)


@pytest.fixture
def weights(train):
    """Return the weights after a fit without trackers."""
    train("reference")
    return {name: one.clone() for name, one in train.spec.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", PUSHING)
def test_a_dead_server_is_told_of_and_changes_nothing(train, framework, weights, kind):
    address = f"127.0.0.1:{free_port()}"
    with pytest.warns(UserWarning, match="could not send the last values to http://127") as caught:
        trainer = train(framework, PUSHING[kind](address))
    told = [str(one.message) for one in caught if "the tracker" in str(one.message)]
    assert [one for one in told if "could not send" in one] == told[-1:]
    assert len(told) <= 2  # on a slow machine, also that it cannot be reached
    assert all("Connection refused" in one for one in told)
    assert trainer.state.step == 12
    assert same(weights, train.spec.model.state_dict())


@pytest.mark.parametrize("kind", PUSHING)
def test_a_server_that_hangs_costs_two_seconds_at_most(train, weights, kind):
    with hanging() as address:
        train("reference")
        began = time.monotonic()
        with pytest.warns(UserWarning, match="it does not answer|timed out"):
            train("reference", PUSHING[kind](address))
        assert time.monotonic() - began < reporter.TIMEOUT + 10  # seconds of a busy machine; a row would take 2 each
    assert same(weights, train.spec.model.state_dict())
    # the thread gives up by itself
    eventually(lambda: not [one for one in threading.enumerate() if one.name in NAMED], seconds=10)


@pytest.mark.parametrize("kind", PUSHING)
def test_the_end_hardly_waits_for_a_server_that_has_failed_before(kind, monkeypatch):
    monkeypatch.setattr(reporter, "TIMEOUT", 0.2)
    monkeypatch.setattr(f"unitrain.loggers.{'otlp' if kind == 'otlp' else 'prometheus'}.TIMEOUT", 0.2)
    with hanging() as address:
        tracker = PUSHING[kind](address)
        tracker.begin(0)
        tracker.log_metrics({"train/loss": 1.0}, 1)
        eventually(lambda: tracker._sender.failures)
        with pytest.warns(UserWarning, match=r"cannot reach .*Training continues; the newest values are sent again"):
            tracker.log_metrics({"train/loss": 2.0}, 2)
        waited = []
        join = tracker._sender._thread.join
        monkeypatch.setattr(tracker._sender._thread, "join", lambda seconds: waited.append(seconds) or join(seconds))
        with pytest.warns(UserWarning, match="could not send the last values"):
            tracker.finalize("success")
        assert waited == [reporter._LITTLE_PATIENCE]
    assert tracker.failures >= 1


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("kind", PUSHING)
def test_an_error_of_the_server_is_told_of_and_changes_nothing(train, weights, kind, status):
    with answering(status) as address, pytest.warns(UserWarning, match=str(status)):
        train("reference", PUSHING[kind](address))
    assert same(weights, train.spec.model.state_dict())


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("kind", PUSHING)
def test_no_connection_outlives_its_delivery(kind, status):
    with answering(status) as address:
        tracker = PUSHING[kind](address)
        try:
            tracker.deliver(tracker.report())
        except OSError as error:
            tracker.kept = error  # as a sender keeps it, with the frames of its traceback
        port = int(address.rpartition(":")[2])
        assert not [one for one in psutil.Process().net_connections() if one.raddr and one.raddr.port == port]


@pytest.mark.parametrize("kind", PUSHING)
def test_a_server_that_comes_back_gets_the_newest_values(kind, monkeypatch):
    monkeypatch.setattr(reporter, "INTERVAL", 0.05)
    seen, port = [], free_port()
    tracker = PUSHING[kind](f"127.0.0.1:{port}")
    tracker.begin(0)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    eventually(lambda: tracker._sender.failures)
    with pytest.warns(UserWarning, match="cannot reach"):
        tracker.log_metrics({"train/loss": 2.0}, 2)
    with answering(200, seen, port):
        eventually(lambda: seen and tracker._sender.error is None)
        tracker.finalize("failed")  # a Pushgateway keeps the group
    assert [tracker.report().values["train/loss"], tracker.report().step] == [2.0, 2]
    assert all(b"train" in body for *_, body in seen)


@pytest.mark.filterwarnings(NOBODY)
@pytest.mark.parametrize("kind", ALL)
def test_a_tracker_can_be_copied_to_another_process_at_any_time(train, kind):
    with answering(200) as address:
        tracker = ALL[kind](address)
        copies = []
        train("reference", tracker, at_end=lambda run: copies.append(pickle.loads(pickle.dumps(tracker))))
    copies.append(pickle.loads(pickle.dumps(tracker)))
    for copy in copies:
        assert copy.run == tracker.run
        assert repr(copy) == repr(tracker)
        assert copy._sender is None


@pytest.mark.filterwarnings(NOBODY)
@pytest.mark.parametrize("kind", ALL)
def test_a_resumed_run_keeps_its_name_and_a_new_one_gets_its_own(train, framework, batches, kind, tmp_path):
    with answering(200) as address:
        tracker = ALL[kind](address)
        first = train(framework, tracker, max_epochs=1)
        name = tracker.run
        first.save_checkpoint(tmp_path / "one.ckpt")
        first.fit(train.spec, batches)
        assert tracker.run != name
        again = ALL[kind](address)
        trainer = UnifiedTrainer("reference", max_epochs=2, loggers=[again], enable_progress_bar=False, seed=3)
        trainer.fit(train.spec, batches, batches, ckpt_path=tmp_path / "one.ckpt")
        assert again.run == name
        assert again.report().step == 12


def test_the_step_is_followed_between_rows(train):
    tracker, found = PrometheusLogger(port=0), []

    def read(run):
        page = get(tracker.url)
        found.append((float(page.split("unitrain_step{")[1].split("} ")[1].split()[0]), "unitrain_train_loss" in page))

    def every(run):
        if run.state.step == 4:
            read(run)

    train("reference", tracker, log_every_n_steps=50, at_end=read, at_batch=every)
    assert found == [(4, False), (12, True)]


def test_the_time_of_the_last_step_is_that_of_the_start_before_the_first(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(reporter.time, "time", lambda: now[0])
    tracker = PrometheusLogger(port=0)
    steps = [0]
    tracker.follow(lambda: (steps[0], 0))
    now[0] = 1500.0
    assert tracker.report().stepped_at == 1000
    steps[0] = 1
    assert tracker.report().stepped_at == 1500
    now[0] = 2000.0
    assert tracker.report().stepped_at == 1500  # no step since


@pytest.mark.slow
def test_only_rank_0_reports(tmp_path, train, new_spec, batches):
    seen = []
    with answering(200, seen) as address:
        tracker = OTLPLogger(f"http://{address}", job="both")
        trainer = UnifiedTrainer(
            "ignite", max_epochs=1, devices=2, accelerator="cpu", loggers=[tracker], enable_progress_bar=False
        )
        trainer.fit(new_spec(metrics=None), torch.utils.data.DataLoader(_Rows(), 4))
    names = {name for *_, body in seen for name in re.findall(rb"both-\d{8}-\d{6}-[0-9a-f]{6}", body)}
    assert len(names) == 1  # each process would make its own


class _Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return torch.full((4,), float(index)), index % 3


def test_trials_of_a_study_are_named_after_it():
    tracker = PrometheusLogger(pushgateway="http://127.0.0.1:9091")
    one, two = (tracker.for_trial(f"trial-{number}", tracker.begin_group("lr")) for number in range(2))
    assert [one.run, two.run] == ["lr-trial-0", "lr-trial-1"]
    one.log_metrics({"a b": 1.0}, 1)
    assert two.report().values == {}
    one._sender.fresh = False
    one.finalize("failed")
