"""One run of a bundle's own entry point, on a socket that the supervisor holds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.providers.local.files import Files

_LAUNCH: Final = """\
import os, sys
number, processes, *command = sys.argv[1:]
open(os.path.join(processes, str(os.getpid())), "x").close()
if number != "3":
    os.dup2(int(number), 3)
    os.close(int(number))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *command])
"""
"""The process itself has to say whom the socket is for, as systemd does; and who it is, before it can be lost."""

_OF_PLATFORMS: Final = ("UNITRAIN_MODEL_DIR", "PORT", "NOTIFY_SOCKET")
_PREFIXES: Final = ("AIP_", "SAGEMAKER_", "LISTEN_")
"""Variables that mean another platform than this one: by their name, and by its beginning."""

_GRACE: Final = 60.0
"""Seconds from SIGTERM to SIGKILL: more than the drain of a service."""


class _Notices:
    """The socket on which a service says that it is ready."""

    def __init__(self) -> None:
        self._folder: str | None = None
        name = f"unitrain-{uuid.uuid4().hex}"
        if sys.platform == "linux":
            self.address, bound = f"@{name}", f"\0{name}"  # a name without a file, whose path could be too long
        else:
            self._folder = tempfile.mkdtemp(prefix="unitrain-", dir="/tmp")  # the paths of sockets are short
            self.address = bound = f"{self._folder}/notices"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(bound)

    def say_ready(self) -> bool:
        """Return whether the service has just said that it answers."""
        with contextlib.suppress(BlockingIOError):
            return b"READY=1" in self._socket.recv(1000).split(b"\n")
        return False

    def close(self) -> None:
        self._socket.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class Service:
    """A started entry point.

    Args:
        files: Of the deployment.
        version: The bundle to run.
        listener: The socket.
        alive: The file of the lock that it holds as long as it lives.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, files: Files, version: str, listener: socket.socket, alive: int) -> None:
        self.version = version
        self._files, self._log_before = files, files.log_size()
        self._ended_at: float | None = None
        self._notices = _Notices()
        bundle, number = files.versions / version, listener.fileno()
        told = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": self._notices.address, "UNITRAIN_MODEL_DIR": str(bundle)}
        try:
            with files.log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603 - this Python
                    [sys.executable, "-c", _LAUNCH, str(number), str(files.processes), str(bundle / "serve")],
                    env=passed_on(os.environ) | told,
                    pass_fds=[number, alive],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=bundle,
                    start_new_session=True,
                )
        except BaseException:
            self._notices.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether its process lives; one that does not end in time is killed here."""
        if self._ended_at is not None and time.monotonic() > self._ended_at + _GRACE:
            self.process.kill()
        return self.process.poll() is None

    @property
    def reason(self) -> str:
        """Why it has ended."""
        return self._files.reason(self._log_before) or f"it ended with status {self.process.returncode}"

    def is_ready(self) -> bool:
        """Return whether it has just said that it answers."""
        return self._notices.say_ready()

    def end(self) -> None:
        """Let it finish what it has accepted."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Release what was made for it, once it has ended."""
        self._notices.close()
        with contextlib.suppress(OSError):
            (self._files.processes / str(self.process.pid)).unlink(missing_ok=True)


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a service gets: all but those of other platforms."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _OF_PLATFORMS and not name.startswith(_PREFIXES)
    }


def recorded(files: Files) -> list[int]:
    """Return the numbers of all processes that were started as services and not seen to end."""
    found = files.processes.iterdir() if files.processes.is_dir() else ()
    return [int(path.name) for path in found if path.name.isdecimal()]


def forget(files: Files) -> None:
    """Remove the records of services that have all ended."""
    shutil.rmtree(files.processes, ignore_errors=True)
    Path(files.processes).mkdir(exist_ok=True)
