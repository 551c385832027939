"""Runs the sides, compares their records, and runs again those that differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from unitrain.errors import ConfigError
from unitrain.testing.comparison import kinds, launch
from unitrain.testing.comparison.comparison import Comparison
from unitrain.testing.comparison.diagnosis import Evidence, diagnosed
from unitrain.testing.comparison.outcome import DIFFERENT, FAILED, Side
from unitrain.testing.comparison.record import Comparer, Mismatch, Segment, first_mismatch, read
from unitrain.testing.comparison.recorder import Orders, found_in
from unitrain.testing.comparison.saved import save_steps
from unitrain.utilities.secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unitrain.testing.comparison.difference import Difference
    from unitrain.testing.comparison.recorder import Kept
    from unitrain.testing.comparison.side import Answer, Program


@dataclass(frozen=True)
class Entrant:
    """A side that is to run.

    Attributes:
        name: Its name.
        framework: The backend's name, if it has one.
        program: What it runs.
        number: Which of the given programs it is.
    """

    name: str
    framework: str | None
    program: Program
    number: int = 0


@dataclass(frozen=True)
class _Done:
    """A side that has run.

    Attributes:
        entrant: What was to run.
        record: Its record.
        answer: What it said.
    """

    entrant: Entrant
    record: Path
    answer: Answer

    @property
    def failed(self) -> bool:
        return self.answer.status == FAILED


class Contest:
    """A comparison of runs.

    Args:
        entrants: The sides.
        folder: A folder for records.
        steps: Number of steps to compare at most.
        bisect: A folder for the tensors of the steps around a difference.
        overwrite: Whether files there may be replaced.
        timeout: Seconds after which a side is stopped.
    """

    def __init__(
        self,
        entrants: Sequence[Entrant],
        folder: Path,
        *,
        steps: int | None = None,
        bisect: Path | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._entrants = entrants
        self._folder = folder
        self._steps = steps
        self._bisect = bisect
        self._overwrite = overwrite
        self._timeout = timeout
        self._numbers = count()
        self._again: dict[tuple[str, int], Answer] = {}
        self._notes: list[str] = []
        self._saved: set[tuple[str, int]] = set()

    def result(self) -> Comparison:
        """Run the sides and return the comparison."""
        done: list[_Done] = []
        for one in self._entrants:
            if any(before.answer.loop and before.entrant.number == one.number for before in done):
                continue  # a loop is the same for each backend
            against = done[0].record if done and not done[0].failed else None
            done.append(self._run(one, against))
        if len(done) == 1:
            raise ConfigError(
                "there is one side only: a hand-written loop, which needs no backend.",
                hint="compare(make, make_loop).",
            )
        first, *others = done
        found = [self._difference(first, one) for one in others]
        equal = [steps for _, steps in found]
        differences = tuple(one for one, _ in found if one is not None)
        self._notes += [f"{side.entrant.name}: {note}" for side in done for note in side.answer.notes]
        return Comparison(
            sides=tuple(_side(one) for one in done),
            differences=differences,
            steps=min(equal) if equal else 0,
            compared=_compared(done),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _run(self, one: Entrant, against: Path | None) -> _Done:
        path = self._folder / f"{next(self._numbers)}.record"
        orders = Orders(path=path, against=against, steps=self._steps, seconds=self._timeout)
        answer = _completed(launch.in_process(self._program(one), orders), path)
        if answer.loop:
            one = replace(one, name=one.name.removesuffix(f" on {one.framework}"), framework=None)
        return _Done(one, path, answer)

    def _program(self, one: Entrant) -> Program:
        """Return the program of a side with a folder of its own, in which no other run has left files."""
        folder = self._folder / f"{next(self._numbers)}.files"
        folder.mkdir()
        return replace(one.program, folder=folder)

    def _difference(self, first: _Done, other: _Done) -> tuple[Difference | None, int]:
        mismatch, steps = first_mismatch(first.record, other.record)
        ended = mismatch is not None and mismatch.position < 0
        if mismatch is None or (ended and (first.failed or other.failed)):
            return None, steps
        segment = _told_of(first.record, other.record, mismatch.segment)
        comparer = _comparer(first.record, other.record)
        evidence = [self._evidence(one, mismatch, repeat=not ended) for one in (first, other)]
        found = diagnosed(mismatch, segment, comparer, evidence[0], evidence[1])
        if ended:
            found = _ended(found, first, other, steps)
        return found, steps

    def _evidence(self, one: _Done, mismatch: Mismatch, *, repeat: bool) -> Evidence:
        """Return what a side kept of the step that differs, in a second run of it."""
        name, generators = one.entrant.name, one.answer.generators
        if not repeat:
            return Evidence(name, generators=generators)
        number = mismatch.segment
        answer = self._again.get((name, number)) or self._repeated(one, number)
        self._again[name, number] = answer
        found = answer.findings
        return Evidence(name, found.kept.get(number, []), found.modules.get(number, []), generators)

    def _repeated(self, one: _Done, number: int) -> Answer:
        path = self._folder / f"{next(self._numbers)}.record"
        keep = range(number, number + 1) if self._bisect is None else range(max(number - 1, 0), number + 2)
        orders = Orders(path=path, against=one.record, stops=False, keep=keep, steps=self._steps, seconds=self._timeout)
        answer = launch.in_process(self._program(one.entrant), orders)
        found = launch.with_kept(answer.findings, orders)
        name, parted = one.entrant.name, found.parted
        if parted is not None and parted <= number:
            self._notes.append(
                f"{name} does not repeat itself: two runs of it alone differ {_at(parted)}. So this may not be a"
                " difference between the sides."
            )
        if answer.status == FAILED:
            self._notes.append(f"{name}: the second run, to read the tensors, failed: {answer.error}")
        if self._bisect is not None:
            self._save(name, found.kept)
        return answer

    def _save(self, name: str, kept: dict[int, list[Kept]]) -> None:
        assert self._bisect is not None
        new = {number: entries for number, entries in kept.items() if (name, number) not in self._saved}
        self._saved |= {(name, number) for number in new}
        paths = save_steps(self._bisect, name, new, overwrite=self._overwrite)
        self._notes += [f"{path} is written." for path in paths]


def _completed(answer: Answer, record: Path) -> Answer:
    """Return an answer with what the record knows: a process that was stopped says nothing of its steps."""
    header, segments = read(record)
    if answer.status == FAILED and header is not None:
        return answer if answer.findings.steps else replace(answer, loop=header.loop, findings=found_in(segments))
    if answer.status not in (FAILED, DIFFERENT) and not answer.findings.steps:
        return replace(answer, status=FAILED, error="it ended without an optimizer step, so nothing can be compared.")
    return answer


def _at(number: int) -> str:
    return f"in step {number}" if number else "before the first batch"


def _segment(record: Path, number: int) -> Segment | None:
    return next((one for one in read(record)[1] if one.number == number), None)


def _told_of(first: Path, other: Path, number: int) -> Segment | None:
    """Return a segment of the side that knows its epoch; a loop does not."""
    found = [_segment(one, number) for one in (first, other)]
    there = [one for one in found if one is not None]
    return next((one for one in there if one.epoch is not None), next(iter(there), None))


def _comparer(first: Path, other: Path) -> Comparer:
    headers = [read(one)[0] for one in (first, other)]
    assert headers[0] is not None
    assert headers[1] is not None
    return Comparer(headers[0], headers[1])


def _ended(found: Difference, first: _Done, other: _Done, steps: int) -> Difference:
    """Return the difference of two runs, one of which ends before the other."""
    there = _segment(first.record, found.step or 0)
    goes_on = there is not None and not there.end
    told = ("goes on", f"ends after {steps} steps") if goes_on else (f"ends after {steps} steps", "goes on")
    names = first.entrant.name, other.entrant.name
    cause = f"{names[0]} {told[0]}, {names[1]} {told[1]}"
    return replace(found, values=told, cause=cause)


def _compared(done: Sequence[_Done]) -> tuple[str, ...]:
    """Return the kinds that are compared between all sides, in the order of a step."""
    headers = [head for head in (read(one.record)[0] for one in done) if head is not None]
    if not headers:
        return ()
    shared = [headers[0].shared(one) for one in headers[1:]] or [headers[0].kinds]
    return tuple(kind for kind in kinds.PHASES if all(kind in one for one in shared))


def _side(one: _Done) -> Side:
    answer = one.answer
    found = answer.findings
    return Side(
        name=one.entrant.name,
        framework=one.entrant.framework,
        status=answer.status,
        error=answer.error and without_secrets(answer.error),
        traceback=answer.traceback and without_secrets(answer.traceback),
        steps=found.steps,
        seconds=round(answer.seconds, 6) if answer.seconds else None,
        observing=round(found.observing, 6),
        memory=answer.memory,
        gpu_memory=answer.gpu_memory,
        stopped_by=answer.stopped_by,
        loss=tuple(found.losses),
        history=tuple(found.history),
    )
