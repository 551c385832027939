"""Where the time of a variant goes: the running stack is looked at each millisecond of the processor."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.timing import quiet
from tests.bench.work import job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from tests.bench.timing import Variant
    from tests.bench.work import Work

EACH = 0.001
"""Seconds of the processor between two looks."""

SAME_WORK = "model, loss, backward, optimizer"
LOADING = "DataLoader"
"""What the bare loop does too."""

_WORKING = ("step.py", "primitives.py", "by_hand.py")
_LIBRARIES = ("ignite", "pytorch_lightning", "torchmetrics", "rich")
_OWN = ("unitrain", "unitrain_ignite", "unitrain_lightning", "tests")


class Part(NamedTuple):
    """A part of the time.

    Attributes:
        place: Whose it is: a library, or a file and a function of unitrain.
        microseconds: What it takes of a batch.
    """

    place: str
    microseconds: float


def profiled(work: Work, variant: Variant, seconds: float = 5.0) -> list[Part]:
    """Return where the time of ``variant`` goes, the largest part first.

    Args:
        work: What it does.
        variant: Who does it.
        seconds: How long to look, at least.
    """
    seen: Counter[str] = Counter()
    spent, batches = 0.0, 0
    while spent < seconds:
        with TemporaryDirectory() as folder, quiet():
            made = job(work, Path(folder))
            began = time.process_time()
            with looked_at(lambda frame: seen.update([owner(frame)])):
                variant(made)
            spent += time.process_time() - began
        batches += work.epochs * sum(len(data) for data in (made.train, made.val) if data is not None)
    each = 1e6 * spent / batches / seen.total()  # the kernel may look less often than it is asked to
    return [Part(place, each * count) for place, count in seen.most_common()]


@contextmanager
def looked_at(note: Callable[[FrameType], Any]) -> Iterator[None]:
    """Show ``note`` the innermost frame, each millisecond."""
    before = signal.signal(signal.SIGPROF, lambda _, frame: frame and note(frame))
    signal.setitimer(signal.ITIMER_PROF, EACH, EACH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def owner(frame: FrameType | None) -> str:
    """Return whose time it is: the innermost of unitrain's functions, or a library that it is in."""
    through_torch = False
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package, file = module.partition(".")[0], Path(frame.f_code.co_filename).name
        if module.startswith("torch.utils.data"):
            return LOADING
        if through_torch and (file in _WORKING or package == "pytorch_lightning"):
            return SAME_WORK
        if package in _LIBRARIES:
            return package
        if package in _OWN:
            return f"{module.replace('.', '/')}.py {frame.f_code.co_name}"
        through_torch |= package == "torch"
        frame = frame.f_back
    return "else"
