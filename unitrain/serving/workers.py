"""Several processes that share one port; a killed one is replaced."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import tempfile
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import ConfigError
from unitrain.serving.plan import Child, Plan
from unitrain.serving.server import layout_of, listener_of, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

LOG = logging.getLogger("unitrain.serving")

_GRACE: Final = 5.0
"""Seconds beyond the drain before a worker is killed."""
_FAILURES: Final = 3
"""How many workers may end one after the other before they are ready."""
_BACK_OFF: Final = 1.0


class Workers:
    """The workers of a service.

    Args:
        plan: What they serve.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}
        self._ready: set[int] = set()
        self._failures = 0
        self._is_stopping = self._is_serving = False

    def run(self, say: Callable[[str, Any], object]) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Args:
            say: Is called with the address and the models' descriptions once all workers are ready.

        Raises:
            ConfigError: If the address is in use, or workers end before they are ready.
        """
        listener = listener_of(self._plan)
        with listener, _shared(layout_of(self._plan.models).bytes(self._plan.config.workers)) as block, self._signals():
            self._plan = replace(self._plan, listener=listener.fileno(), block=block)
            try:
                for worker in range(self._plan.config.workers):
                    self._start(worker)
                self._watch(url_of(self._plan.config, listener), say)
            finally:
                listener.close()  # else a new client waits for workers that take none
                self._stop()

    def _start(self, worker: int) -> None:
        child = self._children[worker] = Child(replace(self._plan, worker=worker))
        assert child.process.stdout is not None  # noqa: S101 - for the type checker
        self._selector.register(child.process.stdout, selectors.EVENT_READ, worker)

    def _watch(self, url: str, say: Callable[[str, Any], object]) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select(timeout=1.0):
                if key.data is None:
                    os.read(key.fd, 1)
                    continue
                self._hear(key.data, key.fileobj)
                if len(self._ready) == self._plan.config.workers and not self._is_serving:
                    self._is_serving = True
                    say(url, self._plan.expected)

    def _hear(self, worker: int, said: IO[bytes] | Any) -> None:
        """Hear that a worker is ready, or that it has ended."""
        line = said.readline()
        told = json.loads(line) if line else None
        if told is not None and "url" in told:
            self._plan = replace(self._plan, expected=self._plan.expected or told["models"])
            self._ready.add(worker)
            self._failures = 0
            return
        self._selector.unregister(said)
        child = self._children[worker]
        child.join(_GRACE)
        if self._is_stopping:
            return
        self._replace(worker, child, told or {})

    def _replace(self, worker: int, child: Child, told: dict[str, Any]) -> None:
        status = child.process.returncode
        if worker not in self._ready:
            self._failures += 1
            if not self._is_serving and ("error" in told or self._failures >= _FAILURES):
                raise ConfigError(
                    told.get("error") or f"the workers end with status {status} before they are ready.",
                    hint=told.get("hint") or "the log has the reason; too little memory ends a worker with -9.",
                )
            time.sleep(_BACK_OFF)
        self._ready.discard(worker)
        LOG.error("worker %d ended with status %s and is replaced; %s", worker, status, told.get("error", "killed?"))
        self._start(worker)

    def _stop(self) -> None:
        self._is_stopping = True
        config = self._plan.config
        for child in self._children.values():
            child.terminate()
        deadline = time.monotonic() + config.drain_delay + config.drain_timeout + _GRACE
        for child in self._children.values():
            child.join(max(0.0, deadline - time.monotonic()))
        self._selector.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop at SIGTERM and at Ctrl-C meanwhile; a pipe wakes the loop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reading, writing = os.pipe()
        self._selector.register(reading, selectors.EVENT_READ, None)

        def stop(_: int, __: Any) -> None:
            self._is_stopping = True
            os.write(writing, b"x")

        before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
            os.close(reading)
            os.close(writing)


@contextlib.contextmanager
def _shared(size: int) -> Iterator[int]:
    """Yield the number of a file without a name that processes can map; on Linux it needs no disk."""
    in_memory = os.fdopen(os.memfd_create("unitrain"), "wb+") if hasattr(os, "memfd_create") else None
    with in_memory or tempfile.TemporaryFile() as file:
        file.truncate(size)
        os.set_inheritable(file.fileno(), True)
        yield file.fileno()
