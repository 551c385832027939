"""Writes a run into a CSV file."""

from __future__ import annotations

import copy
import csv
import errno
import hashlib
import io
import json
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.loggers.figures import file_name
from unitrain.loggers.logger import group_folder, run_folder
from unitrain.utilities.files import user_path, written
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = ("step", "epoch")
_TAIL = 4096
"""How many bytes at its end a file is recognized by."""


@named_arguments(ConfigError, callback_arguments_for)
class CSVLogger(Shown):
    """Writes ``<save_dir>/<name>/metrics.csv``, with ``hparams.json`` and ``figures/<name>-<step>.png`` beside it.

    A row is ``step, epoch`` and the values, sorted by name; a new name rewrites the file. The file contains no times,
    so the same spec, config and seed give the same bytes on every backend. A new run never overwrites an old one: it
    goes to ``<name>-2`` and so on. A resumed run continues in its own folder, after the rows that its checkpoint
    includes. An evaluation after a fit of the same trainer adds its row to the fit's file; alone it is a new run.

    Attributes:
        folder: The folder of the run.
        path: The CSV file.

    Args:
        save_dir: Parent directory.
        name: Name of the run's folder.

    Example:
        >>> tracker = CSVLogger("runs", name="digits")
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False, loggers=[tracker])
        >>> _ = trainer.fit(spec, batches)
        >>> tracker.path.name
        'metrics.csv'
    """

    _file: FileIO | None = None
    _before: str | None = None
    _known: tuple[int, str | None] = (0, None)
    _handle: tuple[int, int] | None = None
    _lost = False
    _fixed = False

    def __init__(self, save_dir: str | Path, name: str = "run") -> None:
        self._save_dir = user_path(save_dir)
        self._name = name
        self._folder: Path | None = None
        self._path: Path | None = None
        self.begin(0)

    @property
    def path(self) -> Path:
        """The file."""
        if self._path is None:
            self._path = self.folder / "metrics.csv"
        return self._path

    @property
    def folder(self) -> Path:
        """The folder, created by the first write."""
        if self._folder is None and self._fixed:
            self._folder = self._here / self._save_dir / self._name
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._folder is None:
            self._folder = run_folder(
                self._here / self._save_dir,
                self._name,
                resumed=self._keep > 0,
                before=self._before,
                copied=self._copied,
            )
        return self._folder

    def begin_group(self, study: str) -> dict[str, str]:
        """Create the folder of a study."""
        return group_folder(self._save_dir, study)

    def for_trial(self, name: str, group: Mapping[str, Any]) -> CSVLogger:
        """Return the tracker of a trial, in the trial's folder; a restarted trial restarts its file."""
        made = copy.copy(self)
        vars(made).update(_save_dir=self._save_dir / group["folder"], _name=name, _fixed=True)
        made.begin(0)
        return made

    def begin(self, rows: int) -> None:
        """Start a run, or continue after ``rows`` rows."""
        self._close()
        self._keep = rows
        self._here = Path.cwd()  # a later os.chdir must not split the run's files
        self._folder = self._path = None
        self._columns: list[str] = []
        self._end = 0
        self._tail = b""
        self._handle = None
        self._lost = False

    def run_state(self) -> dict[str, Any]:
        """Return the folder of the run, for a checkpoint."""
        if self._folder is None:
            return {}
        return {"folder": str(self._folder.absolute()), "bytes": self._end, "digest": _digest(self.path, self._end)}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Continue in the folder of the resumed run."""
        self._before, self._known = state.get("folder"), (state.get("bytes", 0), state.get("digest"))

    def _copied(self, folder: Path) -> bool:
        """Return whether ``folder`` is a copy: its file begins as the run's did."""
        return _digest(folder / "metrics.csv", self._known[0]) == self._known[1]

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Write one row; a failed write leaves the file unchanged."""
        row = {"step": step, **metrics}
        if self._end == 0:
            self._take_up()
        new = row.keys() - {*self._columns}
        if new or self._end == 0:
            self._rewrite([*_FIRST, *sorted({*self._columns, *row} - {*_FIRST})], row)
        else:
            self._append(row)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Write the hyper-parameters."""
        text = json.dumps(dict(params), indent=2, default=str) + "\n"
        with written(self.folder / "hparams.json") as file:
            file.write(text.encode())

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Write a figure as an image."""
        with written(self.folder / file_name(name, step)) as file:
            figure.savefig(file, format="png")

    def save(self) -> None:
        """Do nothing: each row is written at once."""

    def finalize(self, status: str) -> None:  # noqa: ARG002 - as trackers have it
        """Close the file."""
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open file: each process opens its own."""
        return vars(self) | {"_file": None}

    def __del__(self) -> None:
        """Close the file, if the run was not finalized."""
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _take_up(self) -> None:
        """Read the header of a file to continue, and remove rows after the checkpoint."""
        if not self._keep or not self.path.exists():
            return
        header, *rows = self._read()
        self._columns = header
        self._replace([header, *rows[: self._keep]])

    def _read(self) -> list[list[str]]:
        with self.path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    def _rewrite(self, columns: list[str], row: dict[str, Any]) -> None:
        """Write the file again, with more columns and one more row."""
        self._require_own()
        header, *rows = self._read()[: 1 + self._rows()] if self._end else [self._columns]
        old = [dict(zip(header, one, strict=True)) for one in rows]
        self._replace([columns, *[[_text(one.get(name, "")) for name in columns] for one in (*old, row)]])
        self._columns = columns

    def _rows(self) -> int:
        """Return the number of complete rows: a failed write may have left a part of one."""
        return self.path.read_bytes()[: self._end].count(b"\n") - 1

    def _replace(self, lines: list[list[str]]) -> None:
        data = _encoded(lines)
        self._close()
        with written(self.path) as file:
            file.write(data)
        self._end, self._tail = len(data), data[-_TAIL:]
        self._handle = _identity(self.path)

    def _append(self, row: dict[str, Any]) -> None:
        data = _encoded([[_text(row.get(name, "")) for name in self._columns]])
        try:
            file = self._opened()
            file.seek(self._end)
            written = file.write(data)
        except OSError:
            with suppress(OSError):
                self._close()  # the next row tries again
            raise
        if written < len(data):
            raise OSError(errno.ENOSPC, "the row was only partly written", str(self.path))
        self._end, self._tail = self._end + written, data[-_TAIL:]

    def _opened(self) -> FileIO:
        """Return the open file, which stays open: opening takes ten times as long as writing a row."""
        if self._require_own() or self._file is None:
            self._close()  # it was removed, renamed or replaced
            self._file = FileIO(self.path, "r+")
            self._handle = _identity(self.path)
        if os.fstat(self._file.fileno()).st_size > self._end:  # what a write that failed has left of a row
            self._file.truncate(self._end)
        return self._file

    def _require_own(self) -> bool:
        """Refuse to write to a file that another process has changed; return whether it was replaced.

        A restarted run may continue in the folder while the old process is still alive.

        Raises:
            OSError: If the file is not as this run left it, except for a partial row.
        """
        if not self._end:
            return False
        found = self.path.stat()
        replaced = (found.st_dev, found.st_ino) != self._handle
        if replaced or found.st_size != self._end:
            self._lost = self._lost or not self._as_left(replaced=replaced)
        if self._lost:
            raise OSError(errno.EBUSY, "another process has written to it since", str(self.path))
        return replaced

    def _as_left(self, *, replaced: bool) -> bool:
        """Return whether the file ends as this run left it, except for a partial row of a failed write."""
        with self.path.open("rb") as file:
            file.seek(max(0, self._end - len(self._tail)))
            tail, more = file.read(len(self._tail)), file.read()
        return tail == self._tail and b"\n" not in more and not (replaced and more)


def in_folder(folder: Path) -> CSVLogger:
    """Return the tracker of a run that has a folder of its own, which exists: the file is ``folder/metrics.csv``."""
    made = CSVLogger(folder.parent, folder.name)
    made._fixed = True  # noqa: SLF001 - of this module
    return made


def _identity(path: Path) -> tuple[int, int]:
    """Return a marker that distinguishes a file from another one of the same name."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _digest(path: Path, length: int) -> str | None:
    """Return a digest of the first bytes of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(length)).hexdigest()
    except OSError:
        return None


def _text(value: Any) -> str:
    """Return the shortest text that parses to the same number."""
    return value if isinstance(value, str) else repr(float(value) if isinstance(value, float) else value)


def _encoded(lines: list[list[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue().encode()
