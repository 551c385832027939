"""The process of a local deployment: ``python -m unitrain.deployment.providers.local.supervisor FOLDER``.

It outlives the script that started it, holds the socket, and keeps one service running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from unitrain.deployment.providers.local.files import Files, State, Wanted
from unitrain.deployment.providers.local.locks import is_linked, locked, sign
from unitrain.deployment.providers.local.service import Service, forget
from unitrain.deployment.providers.local.token import salted
from unitrain.errors import DeployError

_TICK: Final = 0.05
_START: Final = 300.0
"""Seconds for a service to load its model."""
_PAUSE: Final = 1.0
"""Seconds before a service that ended by itself is started again."""
_LARGEST_LOG: Final = 10**7


class _Failed(Exception):  # noqa: N818 - it never leaves this module
    """A service cannot be started; its text is the reason."""


class Supervisor:
    """Keeps what is wanted running until SIGTERM.

    Args:
        files: Of the deployment.
        lock: The file of the lock that it holds itself.
        alive: The file of the lock that services hold.
    """

    def __init__(self, files: Files, lock: int, alive: int) -> None:
        self._files, self._lock, self._alive = files, lock, alive
        earlier = files.state()
        self._port = (urlsplit(earlier.url).port or 0) if earlier is not None else 0
        self._state = State("Starting", token=salted())
        self._written: State | None = None
        self._listener: socket.socket | None = None
        self._wanted: Wanted | None = None
        self._service: Service | None = None
        self._draining: list[Service] = []
        self._is_stopping = False
        self._restart_at = 0.0

    def stop(self, *_: Any) -> None:
        """Let the loop end."""
        self._is_stopping = True

    def run(self) -> None:
        """Run until SIGTERM, until the folder is removed, or until the first service failed."""
        self._tell()
        while not self._is_stopping and self._state.state != "Failed" and is_linked(self._lock):
            self._follow()
            self._keep_running()
            self._forget_drained()
            time.sleep(_TICK)
        self._end()

    def _follow(self) -> None:
        """Look at what is wanted."""
        try:
            wanted = self._files.wanted()
        except (DeployError, TypeError) as error:  # somebody has edited it; what runs stays
            self._tell(reason=str(error))
            return
        if wanted is not None and wanted.call != self._state.call:
            self._change(wanted)

    @property
    def _is_running(self) -> bool:
        return self._service is not None and self._service.is_alive

    def _tell(self, **changes: Any) -> None:
        """Change the state, and write it if it differs from what is written; on a full disk the next call tries."""
        self._state = replace(self._state, draining=tuple(one.version for one in self._draining), **changes)
        if self._state != self._written:
            with contextlib.suppress(OSError):
                self._files.tell(self._state)
                self._written = self._state

    def _change(self, wanted: Wanted) -> None:
        """Start what is wanted beside what runs, which ends once the new service is ready, and stays if it fails."""
        if self._is_running:
            self._tell(state="Updating", reason="")
        before, listener = self._listener, self._listener
        try:
            listener = self._listening(wanted)
            if listener is before and wanted.version == self._state.version and self._is_running:
                self._wanted = wanted
                self._tell(state="InService", call=wanted.call)
                return
            started = self._started(wanted.version, listener)
        except _Failed as failed:
            if listener is not before and listener is not None:
                listener.close()
            now = "Failed" if self._service is None else "InService" if self._is_running else "Restarting"
            self._tell(state=now, call=wanted.call, reason=str(failed))
            return
        self._use(wanted, listener, started)

    def _use(self, wanted: Wanted, listener: socket.socket, started: Service) -> None:
        """Let a service that is ready answer alone."""
        before, old = self._listener, self._service
        self._service, self._listener, self._wanted, self._restart_at = started, listener, wanted, 0.0
        if old is not None:
            old.end()
            self._draining.append(old)
        if before is not None and before is not listener:
            before.close()
        pid, url = started.process.pid, _url_of(listener)
        self._tell(state="InService", version=wanted.version, call=wanted.call, url=url, service=pid)

    def _listening(self, wanted: Wanted) -> socket.socket:
        """Return the present socket if it is the wanted one, else a new one, on the port of an earlier life if free."""
        if self._listener is not None and self._wanted is not None:
            is_same = wanted.host == self._wanted.host and wanted.port in (0, self._listener.getsockname()[1])
            if is_same:
                return self._listener
        if self._listener is None and wanted.port == 0 and self._port:
            with contextlib.suppress(_Failed):
                return _listen(wanted.host, self._port)
        return _listen(wanted.host, wanted.port)

    def _started(self, version: str, listener: socket.socket) -> Service:
        """Start a service and wait until it is ready."""
        try:
            self._shorten_log()
            started = Service(self._files, version, listener, self._alive)
        except (OSError, ValueError) as error:
            raise _Failed(f"the service cannot be started: {error}") from error
        deadline = time.monotonic() + _START
        while not started.is_ready():
            if not started.is_alive:
                started.close()
                raise _Failed(started.reason)
            if self._is_stopping or time.monotonic() > deadline:
                started.kill()
                started.close()
                raise _Failed("it was stopped" if self._is_stopping else f"it was not ready after {_START:.0f} s")
            time.sleep(_TICK)
        return started

    def _keep_running(self) -> None:
        """Start a service that ended by itself again."""
        if self._service is None or self._is_running or self._listener is None:
            return
        now = time.monotonic()
        if not self._restart_at:
            self._restart_at = now + _PAUSE
            status = self._service.process.returncode
            self._tell(state="Restarting", reason=f"the service ended with status {status}")
        if now < self._restart_at:
            return
        try:
            started = self._started(self._service.version, self._listener)
        except _Failed as failed:
            self._restart_at = time.monotonic() + _PAUSE
            self._tell(reason=str(failed))
            return
        self._service.close()
        self._service, self._restart_at = started, 0.0
        self._tell(state="InService", reason="", service=started.process.pid)

    def _forget_drained(self) -> None:
        for one in [one for one in self._draining if not one.is_alive]:
            self._draining.remove(one)
            one.close()
        self._tell()

    def _shorten_log(self) -> None:
        log = self._files.log
        if log.exists() and log.stat().st_size > _LARGEST_LOG:
            log.replace(log.with_suffix(".log.1"))

    def _end(self) -> None:
        """End what runs, and wait for it."""
        if self._listener is not None:
            self._listener.close()
        everything = services = [*self._draining, *([] if self._service is None else [self._service])]
        for one in services:
            one.end()
        while services := [one for one in services if one.is_alive]:
            time.sleep(_TICK)
        for one in everything:
            one.close()
        if self._state.state != "Failed":
            self._tell(state="Stopped")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, ValueError) as error:
        raise _Failed(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a comparison
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def main(folder: str) -> int:
    """Supervise the deployment in ``folder``, unless somebody does; return the exit status.

    The process that the script started ends at once, and its child supervises: nobody has to wait for it.
    """
    files = Files(Path(folder))
    try:
        lock, alive = locked(files.supervising), locked(files.serving)
    except BlockingIOError:
        return 1
    forget(files)
    child = os.fork()
    if child:
        sign(lock, child)
        return 0
    supervisor = Supervisor(files, lock, alive)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
