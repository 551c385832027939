"""Sends requests on many connections: as fast as they are answered, or at a fixed rate."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unitrain.serving.load.client import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any, TypeVar

    from unitrain.serving.load.client import Address

    Result = TypeVar("Result")

UNSENT = "not sent"
TIMEOUT = "timeout"
_GOOD = range(200, 300)
_MOST_SELECTED = 500
"""How many connections ``select`` waits for; it knows descriptors below 1024 only."""


@dataclass(frozen=True)
class Load:
    """What is to be sent.

    Attributes:
        address: Where.
        request: All bytes of it.
        connections: How many there are.
        seconds: How long requests are started.
        rate: Requests a second; None: each connection sends the next one when it has the answer.
        timeout: How long to wait for an answer, in seconds.
    """

    address: Address
    request: bytes
    connections: int
    seconds: float
    rate: float | None = None
    timeout: float = 30.0


@dataclass
class Measured:
    """What came of it.

    Attributes:
        latencies: Of the requests that were answered with a 2xx status, in seconds.
        errors: How many failed: by status, or by what became of the connection.
        seconds: From the first start to the last answer.
    """

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def run_precisely(work: Coroutine[Any, Any, Result], connections: int) -> Result:
    """Run ``work`` in a loop whose timers are exact: with ``epoll`` each is late by up to a millisecond."""

    def loop() -> asyncio.AbstractEventLoop:
        fits = connections <= _MOST_SELECTED
        return asyncio.SelectorEventLoop(selectors.SelectSelector() if fits else selectors.DefaultSelector())

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)


async def drive(load: Load, clock: Callable[[], float] = time.perf_counter) -> Measured:
    """Send the load, and measure.

    At a fixed rate each latency counts from the moment at which its request was due, even if all connections were busy
    then: a server that stalls for a second has made all those wait that came in this second. What could not be sent at
    all by ``timeout`` seconds after the end is an error.

    Raises:
        OSError: If the connections cannot be opened.
    """
    connections = await asyncio.gather(*(Connection.to(load.address) for _ in range(load.connections)))
    return await _Drive(load, clock).run(list(connections))


class _Drive:
    """Sends one load.

    Args:
        load: What to send.
        clock: Returns the time in seconds.
    """

    def __init__(self, load: Load, clock: Callable[[], float]) -> None:
        self._load, self._clock = load, clock
        self._found, self._began = Measured(), clock()
        self._due = _schedule(load, self._began, clock)
        self._last = self._began + load.seconds + load.timeout

    async def run(self, connections: list[Connection]) -> Measured:
        """Send it all, and return what came of it."""
        await asyncio.gather(*map(self._work, connections))
        self._found.seconds = self._clock() - self._began
        return self._found

    async def _work(self, connection: Connection) -> None:
        """Send what is due on one connection, one request after the other."""
        for start in self._due:
            if (wait := start - self._clock()) > 0:
                await asyncio.sleep(wait)
            elif self._clock() > self._last:
                self._found.errors[UNSENT] += 1
                continue
            connection, failure = await self._ask(connection)
            if failure is None:
                self._found.latencies.append(self._clock() - start)
            else:
                self._found.errors[failure] += 1
        connection.close()

    async def _ask(self, connection: Connection) -> tuple[Connection, str | None]:
        """Send one request; return the connection, a new one if the old one was closed, and why the request failed."""
        try:
            async with asyncio.timeout(self._load.timeout):
                if not connection.is_open:
                    connection = await Connection.to(self._load.address)
                answer = await connection.ask(self._load.request)
        except TimeoutError:
            connection.close()
            return connection, TIMEOUT
        except OSError as error:
            return connection, type(error).__name__
        return connection, None if answer.status in _GOOD else str(answer.status)


def _schedule(load: Load, began: float, clock: Callable[[], float]) -> Iterator[float]:
    """Yield when each request is due; all connections take from the same one."""
    if load.rate is None:
        while (now := clock()) < began + load.seconds:
            yield now
    else:
        for number in range(round(load.rate * load.seconds)):
            yield began + number / load.rate
