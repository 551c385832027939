"""Writes down what an observer sees: a digest of each entry, and in some steps the values too."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from unitrain.testing.comparison.bits import digest, plain
from unitrain.testing.comparison.record import Comparer, Entry, Header, RecordFile, Segment, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from unitrain.testing.comparison.leaves import Leaf


class Kept(NamedTuple):
    """An entry with its values.

    Attributes:
        kind: One of ``kinds.PHASES``.
        digest: Of the values.
        leaves: The values by name, on the CPU.
    """

    kind: str
    digest: str
    leaves: list[Leaf]


@dataclass(frozen=True)
class Orders:
    """How to record.

    Attributes:
        path: The record to write.
        against: A record to compare with; the run ends at the first difference, if ``stops``.
        stops: Whether it ends there.
        keep: The segments whose values are kept; the run ends after the last one.
        steps: The run ends after so many optimizer steps, if given.
        seconds: The process is stopped after so many seconds, if given.
    """

    path: Path
    against: Path | None = None
    stops: bool = True
    keep: range = range(0)
    steps: int | None = None
    seconds: float | None = None


@dataclass
class Findings:
    """What a recorder has found.

    Attributes:
        steps: Number of finished optimizer steps.
        kept: The entries of the segments that were to be kept, by number.
        modules: The outputs of the modules in these segments, in the order of their calls.
        parted: Number of the first segment that differs from the record to compare with.
        observing: Seconds spent on observing.
        losses: The number of the running step and the loss, for each batch.
        history: The epoch, the step and the metrics of each epoch.
    """

    steps: int = 0
    kept: dict[int, list[Kept]] = field(default_factory=dict)
    modules: dict[int, list[tuple[str, list[Leaf]]]] = field(default_factory=dict)
    parted: int | None = None
    observing: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


def found_in(segments: Iterable[Segment]) -> Findings:
    """Return what the segments of a record tell, where a process left nothing else."""
    found = Findings()
    for one in segments:
        found.steps = found.steps if one.end else one.number
        found.losses += [(one.number, loss) for loss in one.losses]
    return found


class Enough(BaseException):
    """Ends a run that has shown what it was to show; nothing that catches errors may catch it.

    Attributes:
        reason: ``"different"``, ``"kept"`` or ``"steps"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Recorder:
    """Writes a record.

    Attributes:
        findings: What was found so far.
        segment: The running segment.

    Args:
        orders: How to record.
        leave: Ends the run, given the reason; it does not return.
    """

    def __init__(self, orders: Orders, leave: Callable[[str], Any]) -> None:
        self.findings = Findings()
        self.segment = Segment(0)
        self._orders = orders
        self._leave = leave
        self._file = RecordFile(orders.path)
        self._other: Iterator[Segment] = iter(())
        self._started: tuple[float, float] | None = None
        self._comparer: Comparer | None = None

    def begin(self, header: Header) -> None:
        """Begin, once it is known what is recorded."""
        self._file.begin(header)
        if self._orders.against is not None:
            other, self._other = read(self._orders.against)
            self._comparer = None if other is None else Comparer(other, header)

    @property
    def keeps(self) -> bool:
        """Whether the values of the running segment are kept."""
        return self.segment.number in self._orders.keep

    def start_clock(self) -> None:
        """Measure the time from now on; only the first call counts."""
        if self._started is None:
            self._started = time.perf_counter(), self.findings.observing

    @property
    def seconds(self) -> float:
        """The time since the first batch, without that of observing."""
        if self._started is None:
            return 0.0
        begun, before = self._started
        return time.perf_counter() - begun - (self.findings.observing - before)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Count the time of what is within as that of observing; what the device still has to do is not."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.findings.observing += time.perf_counter() - begun

    def add(self, kind: str, named: Iterable[Leaf], before: str | None = None) -> None:
        """Record an entry.

        Args:
            kind: Its kind.
            named: Its values.
            before: A kind whose first entry it is put before, if there is one in this segment.
        """
        found = list(named)
        entry = Entry(kind, digest(found))
        entries = self.segment.entries
        at = next((index for index, one in enumerate(entries) if one.kind == before), len(entries))
        entries.insert(at, entry)
        if self.keeps:
            self.findings.kept.setdefault(self.segment.number, []).insert(at, Kept(*entry, _copies(found)))

    def add_module(self, name: str, named: Iterable[Leaf]) -> None:
        """Keep the output of a module; it is in no digest."""
        self.findings.modules.setdefault(self.segment.number, []).append((name, _copies(named)))

    def add_loss(self, loss: float) -> None:
        """Record a loss for the curve."""
        self.segment.losses.append(loss)
        self.findings.losses.append((self.segment.number, loss))

    def close(self, epoch: int | None = None, batch: int | None = None) -> None:
        """End the running segment and begin the next one; end the run if it has shown enough."""
        done = self.segment
        done.epoch, done.batch = epoch, batch
        self._file.add(done)
        self.findings.steps = self.findings.steps if done.end else done.number
        self.segment = Segment(done.number + 1)
        if self._parts(done):
            self.findings.parted = done.number
            if self._orders.stops:
                self._leave("different")
        if self._orders.keep and self.segment.number >= self._orders.keep.stop:
            self._leave("kept")
        if done.number == self._orders.steps and not done.end:
            self._leave("steps")

    def _parts(self, done: Segment) -> bool:
        """Return whether this is the first segment that differs from that of the other record."""
        if self._comparer is None or self.findings.parted is not None:
            return False
        return self._comparer.mismatch(next(self._other, None), done) is not None

    def end(self) -> None:
        """Finish the record."""
        self._file.close()


def _copies(named: Iterable[Leaf]) -> list[Leaf]:
    return [(name, _copy(value)) for name, value in named]


def _copy(value: Any) -> Any:
    """Return a value as it is kept, of a type that torch reads without running code."""
    if isinstance(value, Tensor):
        return plain(value).clone().as_subclass(Tensor)
    return value if type(value) in (type(None), bool, int, float, str) else repr(value)
