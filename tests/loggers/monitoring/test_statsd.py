"""A real StatsD server reads a run; what a datagram cannot say is left out and counted."""

from __future__ import annotations

import math
import socket

import pytest

from tests.monitoring_servers import eventually, running_collectd
from tests.servers import free_port
from unitrain import StatsDLogger
from unitrain.loggers.statsd import datagrams


@pytest.fixture
def listener():
    """Yield a socket that receives datagrams, and its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


def test_collectd_reads_the_run(train, framework, tmp_path):
    with running_collectd(tmp_path) as server:
        train(framework, StatsDLogger(server.address, prefix="digits"))
        expected = {f"digits.{name.replace('/', '.')}": value for name, value in train.result.metrics.items()}
        eventually(lambda: expected.keys() <= server.gauges().keys())
        found = server.gauges()
    assert found["digits.step"] == 12
    assert found["digits.epoch"] == 1
    for name, value in expected.items():
        assert found[name] == round(value, 6), name  # collectd writes six decimals


def test_collectd_reads_negative_values_as_values(tmp_path):
    with running_collectd(tmp_path) as server:
        tracker = StatsDLogger(server.address)
        for number, value in enumerate((-1.5, -2.5, 3.0, -0.25)):  # else a decrement: -4.0 after the second
            tracker.begin(0)
            tracker.log_metrics({"train/reward": value}, number + 1)
            tracker.finalize("success")
            eventually(lambda wanted=value: server.gauges().get("unitrain.train.reward") == wanted)


def test_each_line_is_of_the_protocol(listener):
    server, address = listener
    tracker = StatsDLogger(address, tags="dogstatsd", run="a run, with: odd|characters")
    tracker.begin(0)
    tracker.log_metrics({"train/loss": -1.5, "val/a:b|c@d#e": 2.0, "lr": 1e-9, "train/nan": math.nan, "x": math.inf}, 7)
    tracker.finalize("success")
    run = "run:a_run__with__odd_characters"
    lines = server.recv(65536).decode().split("\n")
    times = [line for line in lines if "last_step_timestamp_seconds" in line]
    assert [line for line in lines if line not in times] == [
        f"unitrain.step:7|g|#{run},stage:train",
        f"unitrain.epoch:0|g|#{run},stage:train",
        f"unitrain.left_out:2|g|#{run},stage:train",
        f"unitrain.train.loss:0|g|#{run},stage:train",
        f"unitrain.train.loss:-1.5|g|#{run},stage:train",
        f"unitrain.val.a_b_c_d_e:2.0|g|#{run},stage:val",
        f"unitrain.lr:1e-09|g|#{run}",
    ]
    assert len(times) == 1
    assert tracker.left_out == 2


def test_a_negative_value_is_in_one_datagram_with_its_zero():
    lines = [f"name{number}:0|g\nname{number}:-1|g" if number % 2 else f"name{number}:1|g" for number in range(500)]
    found = list(datagrams(lines))
    assert b"\n".join(found).decode() == "\n".join(lines)
    assert len(found) > 3
    assert max(map(len, found)) <= 1400
    assert all(one.count(b":0|g") == one.count(b":-1|g") for one in found)


def test_refused_datagrams_do_not_stop_training_and_are_counted(train, framework):
    port = free_port()
    with pytest.warns(UserWarning, match=rf"datagrams of StatsDLogger were refused: no server listens on .*:{port}"):
        trainer = train(framework, StatsDLogger(f"127.0.0.1:{port}"))
    assert trainer.state.step == 12


def test_a_server_that_comes_back_gets_the_next_values():
    port = free_port()
    tracker = StatsDLogger(f"127.0.0.1:{port}")
    tracker.begin(0)
    tracker.log_metrics({"loss": 1.0}, 1)
    eventually(lambda: tracker._connection is not None and _pending(tracker._connection))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", port))
        server.settimeout(5)
        tracker.log_metrics({"loss": 2.0}, 2)
        assert "unitrain.loss:2.0|g" in server.recv(65536).decode()  # it does not get lost in the error of the first
        with pytest.warns(UserWarning, match="1 datagrams"):
            tracker.finalize("success")


def _pending(connection):
    """Return whether the machine has a refusal to report, without taking it."""
    import select

    poll = select.poll()
    poll.register(connection, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def test_the_thread_keeps_one_socket_and_closes_it(listener):
    _, address = listener
    tracker = StatsDLogger(address)
    tracker.begin(0)
    tracker.log_metrics({"loss": 1.0}, 1)
    eventually(lambda: tracker._connection is not None)
    connection = tracker._connection
    tracker.finalize("success")
    assert connection.fileno() == -1
