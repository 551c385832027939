"""The values of a run's `metrics.csv`, by column; also of files that other programs have written."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LARGEST = 256 << 20
_STEP, _EPOCH = ("step", "global_step", "iteration"), ("epoch",)


class Point(NamedTuple):
    """A value, and the number of its row; its epoch is NaN where the file has none."""

    step: float
    epoch: float
    value: float
    row: int


@dataclass(frozen=True)
class Values:
    """The numbers of a file.

    Attributes:
        columns: The points of each column.
        by: What ``Point.step`` is: ``"step"``, or ``"row"`` if the file has no steps.
        unread: How many cells are no numbers.
    """

    columns: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    by: str = "step"
    unread: int = 0

    def history(self) -> list[dict[str, float]]:
        """Return the last value of each column in each epoch, as FitResult has them."""
        found: dict[float, dict[str, float]] = {}
        for name, points in self.columns.items():
            for one in points:
                if not math.isnan(one.epoch):
                    row = found.setdefault(one.epoch, {"epoch": one.epoch, "step": one.step})
                    row["step"] = max(row["step"], one.step)
                    row[name] = one.value
        return [found[epoch] for epoch in sorted(found)]

    def by_step(self) -> Iterator[tuple[str, list[Point]]]:
        """Yield the columns that have more values than epochs, without the rows of epochs."""
        of_epochs = self._rows_of_epochs()
        for name, points in self.columns.items():
            found = [one for one in points if one.row not in of_epochs]
            if len({one.epoch for one in points}) < len(points) and len(found) > 1:
                yield name, found

    def _rows_of_epochs(self) -> set[int]:
        """Return the rows with the values of an epoch: the last one of each.

        The last epoch may have been cut off: then its last row is one of a step, and has the columns of the others.
        """
        last: dict[float, int] = {}
        for points in self.columns.values():
            for one in points:
                last[one.epoch] = max(one.row, last.get(one.epoch, -1))
        ends = {epoch: row for epoch, row in last.items() if not math.isnan(epoch)}
        if ends and not self._ended(max(ends), ends[max(ends)]):
            ends.pop(max(ends))
        return {*ends.values()}

    def _ended(self, epoch: float, row: int) -> bool:
        """Return whether the last row of an epoch has a column that the others have not, or the step of another."""
        there = [[one for one in points if one.epoch == epoch] for points in self.columns.values()]
        step = next(one.step for points in there for one in points if one.row == row)
        again = any(one.step == step and one.row != row for points in there for one in points)
        return again or any(len(points) == 1 and points[0].row == row for points in there)


def read_values(path: Path) -> Values:
    """Return the numbers of a CSV file.

    Raises:
        ConfigError: If it cannot be read, or has no numbers.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(
                f"{path} is larger than {_LARGEST >> 20} MiB.", hint="log fewer steps: log_every_n_steps="
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = _read(csv.reader(file))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}.", hint="pass the metrics.csv of a CSVLogger.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no CSV file: {error}.", hint="pass the metrics.csv of a CSVLogger.") from error
    if not found.columns:
        raise ConfigError(f"{path} has no column of numbers.", hint="its first line names the columns: step,epoch,...")
    return found


def _read(lines: Iterator[list[str]]) -> Values:
    header = next(lines, [])
    step, epoch = (_index(header, names) for names in (_STEP, _EPOCH))
    others = [index for index, name in enumerate(header) if name and index not in (step, epoch)]
    columns: dict[str, list[Point]] = {}
    unread = 0
    for number, cells in enumerate(lines):
        at = float(number) if step is None else _number(cells, step)
        when = math.nan if epoch is None else _number(cells, epoch, otherwise=math.nan)
        for index in others:
            if index >= len(cells) or cells[index] == "":
                continue
            value = _number(cells, index)
            if value is None or at is None or not math.isfinite(at):
                unread += 1
            else:
                columns.setdefault(header[index], []).append(
                    Point(at, math.nan if when is None else when, value, number)
                )
    return Values(columns, "row" if step is None else "step", unread)


def _index(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((index for index, name in enumerate(header) if name in names), None)


def _number(cells: Sequence[str], index: int, otherwise: float | None = None) -> float | None:
    try:
        return float(cells[index])
    except (ValueError, IndexError):
        return otherwise
