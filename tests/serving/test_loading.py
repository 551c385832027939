"""SIGTERM and Ctrl-C end a service that is still loading its model: with status 0, at once, and with nothing left."""

import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.onnx_models import write_slowly_loaded_model, write_small_model
from tests.servers import free_port
from tests.serving.clients import Client
from tests.serving.test_activation import WITH_PID

QUICKLY = 4.0
"""Seconds of a busy machine; the model takes several times as long to load."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return write_slowly_loaded_model(tmp_path_factory.mktemp("loading") / "slow.onnx")


def until(true, process, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def health(port):
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=5) as client:
            return client.get("/health").json["status"]
    except OSError:
        return None


def is_mapped(process, library):
    """Return whether one of the processes, which say nothing themselves yet, has imported a library."""
    every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return any(library in one.path for process in every for one in process.memory_maps())


def is_loading(process):
    return is_mapped(process, "onnxruntime")


def end(process, number=signal.SIGTERM):
    """Send the signal; return the exit status, the seconds it took and what is left."""
    children = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=60)
    seconds = time.monotonic() - began
    _, left = psutil.wait_procs(children, timeout=3)
    return process.returncode, seconds, left


def started(*command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def command_of(model, *options):
    return [sys.executable, "-m", "unitrain", "serve", f"model={model}", *options]


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGTERM, ()),
        (signal.SIGTERM, ("--drain-delay", "30")),
        (signal.SIGTERM, ("--workers", "2")),
        (signal.SIGINT, ()),
    ],
    ids=["SIGTERM", "SIGTERM-delay", "SIGTERM-workers", "SIGINT"],
)
def test_a_service_that_loads_ends_at_once(slow, number, options):
    port = free_port()
    with started(*command_of(slow, "--port", str(port), *options)) as process:
        until(lambda: health(port) == "loading", process)
        status, seconds, left = end(process, number)
    assert (status, left) == (0, [])
    assert seconds < QUICKLY


def test_a_service_of_systemd_ends_at_once(slow):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = str(listener.fileno())
        script = f"export LISTEN_FDS=1 FD={number}; {WITH_PID}"
        with started("bash", "-c", script, "sh", *command_of(slow), pass_fds=[listener.fileno()]) as process:
            until(lambda: is_loading(process), process)
            time.sleep(1)
            status, seconds, left = end(process)
    assert (status, left) == (0, [])
    assert seconds < QUICKLY


def test_a_script_that_waits_for_a_service_ends_with_it(slow):
    script = "import sys, unitrain; unitrain.serve(sys.argv[1], port=0, block=False)"
    with started(sys.executable, "-c", script, str(slow)) as process:
        until(lambda: is_loading(process), process)
        status, seconds, left = end(process, signal.SIGINT)
    assert (status, left) == (-signal.SIGINT, [])
    assert seconds < QUICKLY


def test_a_service_that_reads_a_replaced_file_ends_at_once(slow, tmp_path):
    port, path = free_port(), write_small_model(tmp_path / "model.onnx")
    with started(*command_of(path, "--port", str(port), "--watch")) as process:
        until(lambda: health(port) == "healthy", process)
        before = psutil.Process(process.pid).num_threads()
        path.unlink()
        path.hardlink_to(slow)
        until(lambda: psutil.Process(process.pid).num_threads() > before, process)
        status, seconds, left = end(process)
    assert (status, left) == (0, [])
    assert seconds < QUICKLY


def test_a_signal_before_the_service_is_there_is_no_failure(slow):
    with started(*command_of(slow, "--port", "0")) as process:
        until(lambda: is_mapped(process, "orjson"), process)
        assert end(process)[0] == 0
