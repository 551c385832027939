"""The record of a side: a file with a line for each optimizer step, in which each entry is a digest.

The first line says what is recorded. The line of a step has everything from the first batch of the step to the one
before the next: validation and the end of an epoch belong to the step before them. Line 0 is what there was before the
first batch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.testing.comparison.kinds import BATCH, LOSS, NOT_IN_A_LOOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SCHEMA = 1


class Entry(NamedTuple):
    """Something that happened.

    Attributes:
        kind: One of ``kinds.PHASES``.
        digest: Of its values.
    """

    kind: str
    digest: str


@dataclass(frozen=True)
class Header:
    """What a record has.

    Attributes:
        kinds: The kinds of entries.
        loop: Whether it is of a hand-written loop.
    """

    kinds: frozenset[str]
    loop: bool

    def shared(self, other: Header) -> frozenset[str]:
        """Return the kinds that are compared between two records."""
        both = self.kinds & other.kinds
        return both - NOT_IN_A_LOOP if self.loop or other.loop else both


@dataclass
class Segment:
    """An optimizer step.

    Attributes:
        number: Its number, from 1; 0 is what there was before.
        epoch: The epoch, from 0; None in a hand-written loop.
        batch: Number of batches until its end; None in a hand-written loop.
        entries: What happened, in order.
        losses: The loss of each of its batches.
        end: Whether it is no step, but the end of the run after the last one.
    """

    number: int
    epoch: int | None = None
    batch: int | None = None
    entries: list[Entry] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    end: bool = False

    def line(self) -> str:
        """Return the segment as a line of a record."""
        return json.dumps([self.number, self.epoch, self.batch, self.entries, self.losses, self.end])

    @classmethod
    def of(cls, line: str) -> Segment:
        """Return the segment of a line."""
        number, epoch, batch, entries, losses, end = json.loads(line)
        return cls(number, epoch, batch, [Entry(*one) for one in entries], losses, end)


class Mismatch(NamedTuple):
    """Where two records part.

    Attributes:
        segment: Number of the segment.
        position: Of the entry, among those that are compared.
        kinds: Of the entry on each side; None if a side has no more entries in this segment.
    """

    segment: int
    position: int
    kinds: tuple[str | None, str | None]


class RecordFile:
    """A record that is being written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)  # what was seen outlives a process that is killed

    def begin(self, header: Header) -> None:
        """Write the first line."""
        self._file.write(json.dumps({"schema": SCHEMA, "kinds": sorted(header.kinds), "loop": header.loop}) + "\n")

    def add(self, segment: Segment) -> None:
        """Write a segment."""
        self._file.write(segment.line() + "\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read(path: Path) -> tuple[Header | None, Iterator[Segment]]:
    """Return the header and the segments of a record; no header if nothing was recorded."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        return None, iter(())
    head: dict[str, Any] = json.loads(first)
    return Header(frozenset(head["kinds"]), head["loop"]), (Segment.of(line) for line in lines)


def _lines(path: Path) -> Iterator[str]:
    """Yield complete lines: the last may be cut, where a process was killed."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.endswith("\n"))


def aligned(entries: Sequence[Any], kinds: frozenset[str], *, loop: bool) -> list[Any]:
    """Return the entries that are compared, in the order in which they are compared.

    A hand-written loop yields one batch and one loss a step, after it. So of the other side, too, the last ones are
    taken, and the batch comes first.

    Args:
        entries: Tuples whose first item is a kind.
        kinds: The kinds that are compared.
        loop: Whether one of the sides is a loop.
    """
    found = [one for one in entries if one[0] in kinds]
    if not loop:
        return found
    batches, losses = ([one for one in found if one[0] == kind] for kind in (BATCH, LOSS))
    rest = [one for one in found if one[0] != BATCH and (one[0] != LOSS or one is losses[-1])]
    return [*batches[-1:], *rest]


class Comparer:
    """Compares two records, segment by segment.

    Args:
        left: The header of the first.
        right: The header of the second.
    """

    def __init__(self, left: Header, right: Header) -> None:
        self.kinds = left.shared(right)
        self.loop = left.loop or right.loop

    def mismatch(self, left: Segment | None, right: Segment | None) -> Mismatch | None:
        """Return where two segments of the same number part.

        A missing one parts at the beginning, and so does the end of a run from a step.
        """
        left, right = self._seen(left), self._seen(right)
        if left is None or right is None or left.end != right.end:
            there = left or right
            return None if there is None else Mismatch(there.number, -1, (None, None))
        first, second = (aligned(one.entries, self.kinds, loop=self.loop) for one in (left, right))
        for position, (a, b) in enumerate(zip_longest(first, second)):
            if a != b:
                return Mismatch(left.number, position, (a and a.kind, b and b.kind))
        return None

    def _seen(self, segment: Segment | None) -> Segment | None:
        """Return a segment, unless it is the end of a run, of which a loop shows nothing."""
        return None if segment is not None and segment.end and self.loop else segment


def first_mismatch(left: Path, right: Path) -> tuple[Mismatch | None, int]:
    """Return where two records part, if they do, and how many steps are equal before.

    Args:
        left: The first record.
        right: The second record.
    """
    head, segments = read(left)
    other, others = read(right)
    if head is None or other is None:
        return None, 0
    return _first(Comparer(head, other), segments, others)


def _first(comparer: Comparer, segments: Iterable[Segment], others: Iterable[Segment]) -> tuple[Mismatch | None, int]:
    steps = 0
    for one, two in zip_longest(segments, others):
        found = comparer.mismatch(one, two)
        if found is not None:
            return found, steps
        steps = steps if one is None or one.end else one.number
    return None, steps
