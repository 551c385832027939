"""A comparison as text of at most 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from unitrain.utilities.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unitrain.testing.comparison.difference import Difference
    from unitrain.testing.comparison.outcome import Outcome, Side

COLUMNS = 80
_MEGA = 1 << 20


def told(result: Outcome) -> list[str]:
    """Return the lines."""
    lines = textwrap.wrap(headline(result), COLUMNS)
    for one in result.differences:
        lines += ["", *textwrap.wrap(where(one), COLUMNS), *_details(one)]
    lines += ["", *_table(result.sides)] if result.steps is not None else []
    errors = dict.fromkeys(one.error for one in result.sides if one.error is not None)
    for error in errors:
        failed = [one.name for one in result.sides if one.error == error]
        lines += ["", *_wrapped(f"{_all(failed)} failed: {error}")]
    for note in result.notes:
        lines += _wrapped(f"note: {note}")
    return lines


def headline(result: Outcome) -> str:
    """Return the result in a sentence."""
    names = [one.name for one in result.sides]
    everybody = _all(names)
    within = "" if result.steps is None else f" in {_steps(result.steps)}"
    if result.status == "equal":
        same = "bits" if result.steps is not None else _all(result.compared)
        return f"equal: {everybody} have the same {same}{within}"
    if result.status == "failed":
        failed = [one.name for one in result.sides if one.status == "failed"]
        return f"failed: {_all(failed)} could not run to the end; {_steps(result.steps or 0)} are equal"
    unlike = list(dict.fromkeys(one.sides[1] for one in result.differences))
    verb = "differs" if len(unlike) == 1 else "differ"
    return f"different: {_all(unlike)} {verb} from {names[0]}" + (
        "" if result.steps is None else f"; {_steps(result.steps)} are equal"
    )


def _all(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def where(one: Difference) -> str:
    """Return where a difference is, in a sentence."""
    phase = one.phase if one.kind == one.phase else f"{one.phase} ({one.kind})"
    if one.step is None:
        return f"{one.sides[0]} and {one.sides[1]}: {phase}"
    when = f"step {one.step}" if one.step else "before the first batch"
    epoch = "" if one.epoch is None or not one.step else f", epoch {one.epoch}, batch {one.batch}"
    return f"{one.sides[0]} and {one.sides[1]}: {when}{epoch}, {phase}"


def _details(one: Difference) -> list[str]:
    rows: list[tuple[str, ...]] = []
    if one.tensor is not None:
        shape = "" if one.shape is None else f" {one.shape}"
        rows.append(("tensor", f"{one.place}, {one.dtype}{shape}" if one.dtype else one.place or ""))
    wide = max(map(len, one.values)) if one.bits[0] else 0
    rows += [
        (name, f"{value.ljust(wide)}  {bits}".rstrip())
        for name, value, bits in zip(one.sides, one.values, one.bits, strict=True)
        if value
    ]
    if one.bits[0]:
        rows.append(("distance", distance(one)))
    if one.module is not None:
        rows.append(("module", f"{one.module}: the first whose call differs"))
    rows += [(name, text) for name, text in (("cause", one.cause), ("hint", one.hint)) if text]
    return ["  " + line for line in in_columns(rows, COLUMNS - 2)]


def distance(one: Difference) -> str:
    """Return the distance of a difference in words."""
    ulp = "not a number on one side" if one.ulp is None else f"{one.ulp} ulp"
    if one.ulp == 0:
        ulp += " (the sign of zero)"
    if one.elements <= 1:
        return ulp
    most = "" if one.max_ulp is None else f", at most {one.max_ulp} ulp"
    return f"{ulp}; {one.differing} of {one.elements} elements differ{most}"


def memory(count: int | None) -> str:
    """Return a number of bytes in MiB."""
    return "" if count is None else f"{count / _MEGA:.0f} MiB"


def _table(sides: Sequence[Side]) -> list[str]:
    gpu = any(one.gpu_memory for one in sides)
    rows: list[Sequence[str]] = [
        ("side", "steps", "seconds", "memory", *(("on the GPU",) if gpu else ()), "last loss", "")
    ]
    for one in sides:
        cells = [one.name, str(one.steps), "" if one.seconds is None else f"{one.seconds:.2f}", memory(one.memory)]
        cells += [memory(one.gpu_memory)] if gpu else []
        rows.append([*cells, f"{one.loss[-1][1]:.6g}" if one.loss else "", status(one)])
    return in_columns(rows, COLUMNS)


def status(side: Side) -> str:
    """Return how a side ended, in words."""
    ends = {"different": "stopped there", "steps": "reached the limit", "failed": "failed"}
    return ends.get(side.status, side.stopped_by or "finished")


def _wrapped(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from textwrap.wrap(line, COLUMNS, subsequent_indent="  ")
