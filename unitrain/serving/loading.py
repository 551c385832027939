"""Loads models in threads of their own, so that a service can end while one is still being loaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_RUNNING: set[threading.Thread] = set()


async def in_thread(work: Callable[[], T]) -> T:
    """Return the result of ``work``, which runs in a thread; where this is cancelled, the thread goes on unheard.

    asyncio's own threads will not do: its loop waits for them at the end, and a file may take minutes.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[Any], None], outcome: object) -> None:
        if not result.done():
            tell(outcome)

    def run() -> None:
        told: tuple[Callable[[Any], None], object]
        try:
            told = result.set_result, work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            told = result.set_exception, error
        _RUNNING.discard(threading.current_thread())
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, *told)

    thread = threading.Thread(target=run, name="unitrain-loading")
    _RUNNING.add(thread)
    thread.start()
    return await result


def leave(status: int) -> int:
    """Return the exit status of a process; where a model is still being loaded, end the process with it at once.

    Python would wait for the thread, and onnxruntime may crash when a process ends around it.
    """
    if _RUNNING:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status
