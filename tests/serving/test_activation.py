"""A service on a socket that its starter holds, as systemd passes it: a successor takes over without a failed request."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.serving.load import Load

SERVE = "import sys, unitrain; unitrain.serve({'small': sys.argv[1]}, workers=int(sys.argv[2]))"
WITH_PID = 'LISTEN_PID=$$ exec "$@" 3<&"$FD"'  # only the process itself knows its number


@pytest.fixture
def start(onnx, tmp_path):
    """Return what starts a service on a socket and waits until it says that it is ready."""
    started = []

    def started_on(listener, workers=1, count="1"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            address = str(tmp_path / f"notify-{len(started)}")
            notified.bind(address)
            notified.settimeout(60)
            number = listener.fileno()
            environment = {**os.environ, "LISTEN_FDS": count, "NOTIFY_SOCKET": address, "FD": str(number)}
            command = ["bash", "-c", WITH_PID, "sh", sys.executable, "-c", SERVE, str(onnx), str(workers)]
            started.append(
                subprocess.Popen(command, env=environment, pass_fds=[number], stderr=subprocess.PIPE, text=True)
            )
            if count == "1":
                assert notified.recv(100) == b"READY=1"
        return started[-1]

    yield started_on
    for one in started:
        one.kill()
        one.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_successor_takes_over_without_a_failed_request(start, workers):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        before = start(listener, workers)
        with Load(url) as load:
            for _ in range(2):
                after = start(listener, workers)
                before.send_signal(signal.SIGTERM)
                assert before.wait(30) == 0
                before = after
        assert load.lost == []
        assert load.refused == 0
        assert len(load.answers) > 20
        assert {status for status, _ in load.answers} == {200}
        before.send_signal(signal.SIGTERM)
        assert before.wait(30) == 0


def test_several_sockets_are_refused(start):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = start(listener, count="2")
        assert "LISTEN_FDS='2'" in service.communicate(timeout=60)[1]
