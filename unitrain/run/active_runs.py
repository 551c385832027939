"""Tracks the active runs of this process, which share the global random generators.

Also tracks the objects that they use, because an object with the state of a run cannot be in two.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from unitrain.errors import ConfigError
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Run(NamedTuple):
    thread: threading.Thread
    fenced: bool


_LOCK = threading.Lock()
_RUNS: list[_Run] = []
_USED: list[object] = []


@contextmanager
def registered(*, fenced: bool) -> Iterator[None]:
    """Register one run; if it runs within a handler of another, restore that one's random states.

    Args:
        fenced: True for a TrainSpec: a nested run does not change its random states. False for native code, where a
            nested run draws as on its own framework.

    Warns:
        UserWarning: If a run of another thread is active.
    """
    run = _Run(threading.current_thread(), fenced)
    with _LOCK:
        others = [one.thread.name for one in _RUNS if one.thread is not run.thread]
        within = any(one.fenced for one in _RUNS if one.thread is run.thread)
    if others:
        warnings.warn(
            f"the thread {run.thread.name!r} started a run while another is active in the thread {others[0]!r}. Both"
            f" use the global random generators of torch, NumPy and Python, so results differ from separate"
            f" runs.\nHint: run them one after the other, or in separate processes.",
            stacklevel=2,
        )
    with _LOCK:
        _RUNS.append(run)
    try:
        with preserved_rng() if within else nullcontext():
            yield
    finally:
        with _LOCK:
            _RUNS.remove(run)


@contextmanager
def used_alone(objects: Iterable[object]) -> Iterator[None]:
    """Reserve objects with the state of a run, in any thread, until this run has ended.

    Raises:
        ConfigError: If an active run uses one of them.
    """
    mine = list(objects)
    with _LOCK:
        taken = next((one for one in mine if any(one is other for other in _USED)), None)
        if taken is None:
            _USED.extend(mine)
    if taken is not None:
        raise ConfigError(
            f"this {type(taken).__name__} is in use by another run, and can only keep the state of one.",
            hint=f"create another {type(taken).__name__} for this run.",
        )
    try:
        yield
    finally:
        with _LOCK:
            gone = set(map(id, mine))
            _USED[:] = [one for one in _USED if id(one) not in gone]
