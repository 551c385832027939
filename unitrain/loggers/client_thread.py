"""The thread that calls a user's monitoring client: each dict, once and in order, without holding up the loop."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from unitrain.loggers.outlet import is_refusal, tell

_KEPT = 10_000
"""The maximum number of waiting dicts; the oldest are dropped and counted."""

_INTERVAL = 0.1
"""Seconds that a dict waits at most for a client that takes it."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two attempts to push the same dict; doubled after each failure."""

_PATIENCE = 2.0
"""Seconds that the end of a run waits for a client that takes nothing; it waits on as long as dicts are taken."""


class ClientThread:
    """Pushes dicts to a client, and keeps those that it cannot take at the moment.

    After an error that may pass (a connection, a timeout), the dict is pushed again. A refusal (ValueError, TypeError)
    is repeated without values that are not finite; if that is refused too, the dict is dropped. Whatever happens is
    told by warnings of the loop's thread.

    Args:
        client: An object with ``push_metrics(dict)``.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._name = type(client).__name__
        self._forget()

    def _forget(self) -> None:
        self._waiting: deque[dict[str, float]] = deque()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._told = False
        self._taken = self._lost = self._left_out = 0

    def push(self, values: dict[str, float], step: int) -> None:  # noqa: ARG002 - a client gets no step
        """Hand over one dict."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._waiting, self._ending), name=f"unitrain {self._name}", daemon=True
            )
            self._thread.start()
        waiting = self._waiting
        waiting.append(values)  # who made it does not change it
        if len(waiting) > _KEPT:
            with suppress(IndexError):  # the thread has taken them meanwhile
                waiting.popleft()
                self._lost += 1
        if self._error is not None and not self._told:
            self._told = True
            tell(f"the client {self._name} failed: {self._error!r}. Training continues; what was not sent is kept.")

    def finalize(self, status: str) -> None:  # noqa: ARG002 - a client is not told
        """Wait until everything was pushed, or the client takes nothing for two seconds."""
        thread = self._thread
        if thread is None:
            return
        self._ending.set()
        taken, since = -1, time.monotonic()
        while thread.is_alive() and (taken != self._taken or time.monotonic() - since < _PATIENCE):
            if taken != self._taken:
                taken, since = self._taken, time.monotonic()
            thread.join(0.05)
        stuck = thread.is_alive()
        left = self._lost + len(self._waiting) + stuck
        self._waiting.clear()
        if left:
            why = "it does not return" if stuck else f"it failed: {self._error!r}"
            tell(f"the client {self._name} did not get the values of {left} batches: {why}.")
        if self._left_out:
            tell(f"the client {self._name} refused {self._left_out} values that are not finite.")
        self._forget()

    def _run(self, waiting: deque[dict[str, float]], ending: threading.Event) -> None:
        """Push what waits, ten times a second: to be woken by each batch would cost the loop more."""
        over = False
        while not over:
            over = ending.wait(_INTERVAL)
            while waiting:
                values = waiting.popleft()
                error = self._attempt(values)
                if error is not None and not self._delivered(values, error, ending):
                    self._lost += 1
                    return
                self._taken += 1

    def _delivered(self, values: dict[str, float], first: Exception, ending: threading.Event) -> bool:
        """Push until the client takes the dict or refuses it; return False if the run ends before.

        Args:
            values: The dict.
            first: What the first attempt has raised.
            ending: Set when the run ends.
        """
        pause, error = _FIRST_PAUSE, first
        while True:
            self._error = error
            if is_refusal(error):
                finite = {name: value for name, value in values.items() if math.isfinite(value)}
                if len(finite) == len(values) or self._attempt(finite) is not None:
                    self._lost += 1
                else:
                    self._left_out += len(values) - len(finite)
                return True
            if ending.is_set():
                return False
            ending.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            again = self._attempt(values)
            if again is None:
                return True
            error = again

    def _attempt(self, values: dict[str, float]) -> Exception | None:
        try:
            self._client.push_metrics(dict(values))
        except Exception as error:  # noqa: BLE001 - whatever a client does, training continues
            return error
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Keep the client only: each process has its own thread."""
        return {"_client": self._client}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without a thread."""
        self.__init__(state["_client"])  # type: ignore[misc]
