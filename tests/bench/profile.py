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
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from tests.bench.timing import Variant
    from tests.bench.work import Work

EACH = 0.001
"""Seconds of the processor between two looks."""

SAME_WORK = "model, loss, backward, optimizer"
LOADING = "DataLoader"
"""What the bare loop does too."""

_WORKING = ("step.py", "primitives.py", "torch_primitives.py", "by_hand.py")
_LIBRARIES = ("ignite", "pytorch_lightning", "torchmetrics", "rich", "importlib")
_OWN = ("unitrain", "unitrain_ignite", "unitrain_lightning", "tests")


class Part(NamedTuple):
    """A part of the time.

    Attributes:
        place: Whose it is: a library, or a file and a function of unitrain.
        microseconds: What it takes of a batch.
    """

    place: str
    microseconds: float


def profiled(work: Work, variants: Mapping[str, Variant], seconds: float = 5.0) -> dict[str, list[Part]]:
    """Return where the time of each variant goes, the largest part first.

    Args:
        work: What they do.
        variants: Who does it, in turn: the speed of a machine changes.
        seconds: How long to look at each, at least.
    """
    seen: dict[str, Counter[str]] = {name: Counter() for name in variants}
    spent = dict.fromkeys(variants, 0.0)
    batches = dict.fromkeys(variants, 0)
    for variant in variants.values():
        _took(work, variant, Counter())  # first use imports and fills caches
    while min(spent.values()) < seconds:
        for name, variant in variants.items():
            took, count = _took(work, variant, seen[name])
            spent[name] += took
            batches[name] += count
    # shares of the time that was measured: the kernel may look less often than it is asked to
    each = {name: 1e6 * spent[name] / batches[name] / looks.total() for name, looks in seen.items()}
    return {
        name: [Part(place, each[name] * count) for place, count in looks.most_common()] for name, looks in seen.items()
    }


def _took(work: Work, variant: Variant, seen: Counter[str]) -> tuple[float, int]:
    """Do the work once, and return the seconds and the batches."""
    with TemporaryDirectory() as folder, quiet():
        made = job(work, Path(folder))
        began = time.process_time()
        with looked_at(lambda frame: seen.update([owner(frame)])):
            variant(made)
        took = time.process_time() - began
    return took, work.epochs * sum(len(data) for data in (made.train, made.val) if data is not None)


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
