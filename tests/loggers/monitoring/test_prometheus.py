"""A real Prometheus reads a run by scrape and through a real Pushgateway; nothing of a run remains by mistake."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error

import pytest

from tests.monitoring_servers import eventually, get, running_prometheus, running_pushgateway
from tests.servers import free_port
from unitrain import ConfigError, PrometheusLogger


def target(url):
    return url.removeprefix("http://").removesuffix("/metrics")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Yield a Prometheus that scrapes a port of this machine and a Pushgateway, the port, and the Pushgateway's URL."""
    port, folder = free_port(), tmp_path_factory.mktemp("servers")
    with (
        running_pushgateway(folder) as gateway,
        running_prometheus(folder, [f"127.0.0.1:{port}", target(gateway)]) as prometheus,
    ):
        yield prometheus, port, gateway


def own(server, run):
    """Return the values that Prometheus has of a run, except for the time."""
    found = server.values(f'{{__name__=~"unitrain_.*",run="{run}"}}')
    return {name: value for name, value in found.items() if name != "unitrain_last_step_timestamp_seconds"}


def as_gauges(run):
    """Return the values of a run by the names in Prometheus."""
    values = {f"unitrain_{name.replace('/', '_')}": value for name, value in run.state.metrics.items()}
    return {**values, "unitrain_step": run.state.step, "unitrain_epoch": run.state.epoch}


def test_prometheus_reads_the_run_by_scrape(train, framework, servers):
    server, port, _ = servers
    tracker, found = PrometheusLogger(port=port, job="digits"), {}

    def read(run):
        expected = as_gauges(run)
        eventually(lambda: own(server, tracker.run) == expected)
        found.update(server.ask(f'unitrain_val_loss{{run="{tracker.run}"}}')[0][0])
        times = server.ask(f'unitrain_last_step_timestamp_seconds{{run="{tracker.run}"}}')
        assert time.time() - 60 < float(times[0][1]) < time.time()

    train(framework, tracker, at_end=read)
    assert found["stage"] == "val"
    assert found["run"] == tracker.run
    assert tracker.run.startswith("digits-")
    assert found.keys() == {"__name__", "job", "instance", "run", "stage"}  # no step: it would make a series a step
    assert train.result.metrics["train/acc"] > 0


def test_all_backends_show_the_same_page(train):
    pages = {}
    for framework in ("reference", "lightning", "ignite"):
        tracker = PrometheusLogger(port=0, run="same")
        train(framework, tracker, at_end=lambda run, at=framework, one=tracker: pages.update({at: get(one.url)}))
    texts = {
        "\n".join(line for line in page.splitlines() if "last_step_timestamp_seconds" not in line)
        for page in pages.values()
    }
    assert len(texts) == 1
    assert 'unitrain_train_loss{run="same",stage="train"}' in texts.pop()


def test_prometheus_reads_values_that_are_not_finite_and_negative_ones(servers):
    server, port, _ = servers
    tracker = PrometheusLogger(port=port, run="odd")
    tracker.before_run()
    tracker.begin(0)
    values = {"train/nan": math.nan, "train/inf": math.inf, "train/low": -math.inf, "train/negative": -1.5}
    tracker.log_metrics({**values, "train/tiny": 5e-324, "epoch": 0}, 1)
    eventually(lambda: server.ask('unitrain_step{run="odd"}'))
    found = {labels["__name__"]: text for labels, text in server.ask('{stage="train",run="odd"}')}
    asked = server.ask("unitrain_train_nan != unitrain_train_nan")
    tracker.finalize("success")
    assert found["unitrain_train_nan"] == "NaN"
    assert found["unitrain_train_inf"] == "+Inf"
    assert found["unitrain_train_low"] == "-Inf"
    assert found["unitrain_train_negative"] == "-1.5"
    assert float(found["unitrain_train_tiny"]) == 5e-324
    assert [labels["run"] for labels, _ in asked] == ["odd"]  # as the alert asks


def test_the_port_is_open_during_the_run_only(train):
    tracker, seen = PrometheusLogger(port=0), []
    assert tracker.url is None
    trainer = train("reference", tracker, at_end=lambda run: seen.append(tracker.url))
    assert tracker.url is None
    with pytest.raises(OSError, match="refused"):
        get(seen[0])
    trainer.validate()  # opens it once more, and closes it
    assert tracker.url is None


def test_only_metrics_are_served(train):
    tracker, seen = PrometheusLogger(port=0), []

    def look(run):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(tracker.url.removesuffix("/metrics") + "/")
        caught.value.close()
        seen.append(caught.value.code)

    train("reference", tracker, at_end=look)
    assert seen == [404]


def test_a_port_in_use_is_refused_before_training(train, framework, new_spec):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        spec = new_spec()
        before = [one.clone() for one in spec.model.parameters()]
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+ for Prometheus: Address already"):
            train(framework, PrometheusLogger(port=other.getsockname()[1]), spec=spec)
        assert all(one.equal(two) for one, two in zip(spec.model.parameters(), before, strict=True))


def test_a_port_is_free_again_after_a_run_and_after_a_failed_one(train, new_spec):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tracker = PrometheusLogger(port=port)
    train("reference", tracker)
    spec = new_spec()
    spec.model.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("on purpose")))
    with pytest.raises(RuntimeError, match="on purpose"):
        train("reference", tracker, spec=spec)
    train("ignite", tracker)


def test_a_client_that_sends_nothing_does_not_hold_up_the_end(train):
    tracker, held = PrometheusLogger(port=0), []

    def connect(run):
        held.append(socket.create_connection(("127.0.0.1", int(tracker.url.split(":")[2].split("/")[0]))))

    train("reference", tracker, at_end=connect)
    held[0].close()


# --- the Pushgateway --------------------------------------------------------------------------------------------------


def groups(gateway):
    """Return the values at a Pushgateway by run and name; its own are left out."""
    found = {}
    for line in get(f"{gateway}/metrics").splitlines():
        if line.startswith("unitrain_"):
            name, _, rest = line.partition("{")
            labels, _, value = rest.partition("} ")
            run = next(one.split('"')[1] for one in labels.split(",") if one.startswith("run="))
            found.setdefault(run, {})[name] = float(value)
    return found


def test_a_run_is_pushed_and_deleted_when_it_has_succeeded(train, framework, servers):
    server, _, gateway = servers
    tracker, jobs = PrometheusLogger(pushgateway=gateway, job="digits"), []

    def read(run):
        expected = as_gauges(run)
        eventually(lambda: own(server, tracker.run) == expected)
        jobs.extend(labels["job"] for labels, _ in server.ask(f'unitrain_step{{run="{tracker.run}"}}'))

    train(framework, tracker, at_end=read)
    assert jobs == ["digits"]
    assert groups(gateway) == {}


def test_what_is_kept_and_what_a_failed_run_leaves(train, new_spec, tmp_path):
    with running_pushgateway(tmp_path) as gateway:
        kept = PrometheusLogger(pushgateway=gateway + "/", run="kept / with a slash", keep=True)
        trainer = train("reference", kept)
        trainer.test(dataloaders=[(one, two) for one, two in _data()])
        spec = new_spec()
        calls = []
        spec.model.register_forward_pre_hook(lambda *_: calls.append(1) or (len(calls) > 9 and 1 / 0) or None)
        with pytest.raises(ZeroDivisionError):
            train("reference", PrometheusLogger(pushgateway=gateway, run="failed"), spec=spec)
        found = groups(gateway)
        assert found.keys() == {"kept / with a slash", "failed"}
        assert found["kept / with a slash"]["unitrain_step"] == 12
        assert "unitrain_test_loss" in found["kept / with a slash"]
        assert 0 < found["failed"]["unitrain_step"] < 12


def _data():
    import torch

    return [(torch.randn(8, 4), torch.randint(0, 3, (8,)))]


def test_a_killed_run_leaves_its_own_group_with_the_time_of_its_last_step(tmp_path):
    script = """
        import sys, time, torch
        from functools import partial
        from unitrain import PrometheusLogger, TrainSpec, UnifiedTrainer
        def batches():
            for _ in range(10_000):
                time.sleep(0.01)
                yield torch.randn(8, 4), torch.randn(8, 1)
        tracker = PrometheusLogger(pushgateway=sys.argv[1], run="killed")
        spec = TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
        UnifiedTrainer("reference", max_steps=10_000, loggers=[tracker], enable_progress_bar=False).fit(spec, batches())
    """
    with running_pushgateway(tmp_path) as gateway:
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), gateway], stderr=subprocess.PIPE)
        try:
            eventually(lambda: groups(gateway).get("killed", {}).get("unitrain_step", 0) > 60, seconds=60)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
        first = groups(gateway)["killed"]
        assert groups(gateway)["killed"] == first  # as old as its time says
        assert first["unitrain_last_step_timestamp_seconds"] > 1.7e9
        other = PrometheusLogger(pushgateway=gateway, run="other")
        other.begin(0)
        other.log_metrics({"train/loss": 1.0}, 1)
        other.finalize("success")
        assert groups(gateway).keys() == {"killed"}  # another run removes its own group only
