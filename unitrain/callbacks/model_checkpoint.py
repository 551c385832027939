"""Saves checkpoints: the best by a metric, the last, or at intervals."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.callbacks.callback import EpochDecision
from unitrain.callbacks.checkpoint_arguments import require_alone, require_counts, require_folder
from unitrain.callbacks.comparison import Mode, improved, measured, require_monitor
from unitrain.callbacks.file_name import SUFFIX, Template
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import ConfigError, named_arguments
from unitrain.metrics.metric import float32
from unitrain.run.saves import CheckpointRequest
from unitrain.run.stopping import SIGNAL
from unitrain.utilities.files import folders_of, user_path
from unitrain.utilities.ledger import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from unitrain.config import TrainerConfig
    from unitrain.run.context import RunContext
    from unitrain.utilities.ledger import Ledger

_LAST = f"last{SUFFIX}"


@named_arguments(ConfigError, callback_arguments_for)
class ModelCheckpoint(EpochDecision):
    """Writes portable checkpoints and keeps the best.

    It compares values at the end of an epoch in float32, like EarlyStopping; of equal values the older file is better.
    Without a monitor the newest are the best.

    It only replaces and removes files that it wrote in this run: if a name is taken by another callback, an earlier
    run or another process, it writes ``name-v1.ckpt``. Without ``dirpath`` each run has its own folder. A resumed run
    owns the files of the run that it continues if it writes into the same folder, even a renamed one.

    A ranked file always contains the weights that its value was measured with. If the monitor has not been measured
    with the current weights when a file is due, the file waits for the next measurement, such as the next validation;
    ``last.ckpt`` does not wait. A run that ends without writing any file warns.

    Attributes:
        best_model_path: The best file so far; None if there is none.
        best_model_score: The value of the best file.
        last_model_path: ``last.ckpt``, or the file written last.
        best_k_models: The kept files with their values, best first.
        template: The parsed ``filename``.

    Args:
        dirpath: Folder for the files; by default ``checkpoints`` in the trainer's ``default_root_dir``, the next run in
            ``checkpoints-2`` and so on.
        filename: A template with counters and metrics, such as ``"{epoch}-{val/acc@5:.2f}"``. Characters that are
            invalid in file names, such as the slash, become ``_``.
        monitor: The metric that ranks the files.
        mode: Whether the ``"min"`` or the ``"max"`` of it is best.
        save_top_k: Number of best files to keep; 0 keeps none, -1 all.
        save_last: Whether to keep the newest as ``last.ckpt`` too; a fit that ends before one is due writes it at its
            end.
        every_n_epochs: Decide after every n-th epoch.
        every_n_train_steps: Write after every n-th optimizer step, instead of at epochs; with a monitor, at the next
            validation that measures it.
        train_time_interval: Write after this much time, instead of at epochs; checked after each batch.
        save_on_exception: If the fit fails, write ``exception.ckpt``: the state after the last completed batch, if the
            error left it unchanged; otherwise warn. The state is tracked after each batch.
        sharded: Write folders with one shard per process instead of files.
        hard_links: Whether files of one save, such as the best and ``last.ckpt``, are hard links to the same bytes; a
            file system without hard links gets copies. Replacing or removing one does not change the other. False
            writes each by itself, for programs that change files in place.
        asynchronous: Whether a thread writes a copy of the state while the run goes on, as with Lightning's
            AsyncCheckpointIO. The next save, the end of the epoch and the end of the fit wait until the files are
            complete; then errors are raised, CHECKPOINT_SAVED is fired and older files are removed. If another file
            is due at the same time that is not asynchronous, all are written at once.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> keep = ModelCheckpoint("kept", monitor="train/loss", save_top_k=2, save_last=True)
        >>> trainer = UnifiedTrainer("reference", max_epochs=3, enable_progress_bar=False, callbacks=[keep])
        >>> trainer.fit(spec, batches).last_checkpoint.name
        'last.ckpt'
    """

    saves_at_interrupt: ClassVar = False
    """Whether Ctrl-C leaves a checkpoint to resume from, as SIGTERM does."""

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str = "{epoch}-{step}",
        *,
        monitor: str | None = None,
        mode: Mode = "min",
        save_top_k: int = 1,
        save_last: bool = False,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        save_on_exception: bool = False,
        sharded: bool = False,
        hard_links: bool = True,
        asynchronous: bool = False,
    ) -> None:
        require_monitor("ModelCheckpoint", "none" if monitor is None else monitor, mode)
        self.text = dirpath if isinstance(dirpath, str) and monitor is None else ""  # might be meant as monitor
        require_folder(self.text)
        every = {"every_n_epochs": every_n_epochs, "every_n_train_steps": every_n_train_steps}
        require_counts(save_top_k, train_time_interval, **every)
        require_alone(asynchronous=asynchronous, sharded=sharded)
        self.dirpath = None if dirpath is None else user_path(dirpath)
        self.filename = filename
        self.template = Template(filename)
        self.monitor, self.mode = monitor, mode
        self.save_top_k, self.save_last = save_top_k, save_last
        self.save_on_exception = save_on_exception
        self.sharded, self.hard_links, self.asynchronous = sharded, hard_links, asynchronous
        self._every_n_epochs = every_n_epochs
        self._every_n_train_steps = every_n_train_steps
        self._train_time_interval = train_time_interval
        self._seconds = None if train_time_interval is None else train_time_interval.total_seconds()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.best_k_models: list[tuple[Path, float]] = []
        self.last_model_path: Path | None = None
        self._last: Path | None = None
        self._awaited: Path | None = None
        self._fallen: list[Path] = []
        self._newest_step = 0
        self._waits = False
        self._next_time = math.inf if self._seconds is None else time.monotonic() + self._seconds

    @property
    def best_model_path(self) -> Path | None:
        """The best file so far."""
        return self.best_k_models[0][0] if self.best_k_models else None

    @property
    def best_model_score(self) -> float | None:
        """The value of the best file."""
        return self.best_k_models[0][1] if self.best_k_models else None

    def folder(self, config: TrainerConfig, files: Ledger) -> Path:
        """Return where it writes in a run with ``config``; the run's own folder is created the first time."""
        return self.target(files) or files.default_folder(config.default_root_dir)

    def target(self, files: Ledger) -> Path | None:
        """Return where it writes; None if that is the run's own folder, and there is none yet."""
        return files.folder if self.dirpath is None else files.at(self.dirpath)

    def earlier_folders(self, config: TrainerConfig) -> list[Path]:
        """Return the folders that runs with ``config`` have written to before, the newest first."""
        return folders_of(Path(config.default_root_dir), FOLDER) if self.dirpath is None else [self.dirpath]

    def earlier_files(self, config: TrainerConfig) -> list[Path]:
        """Return the checkpoints in the newest of these folders that has any, the newest first."""
        for folder in self.earlier_folders(config):
            found = [(_written(one), one) for one in folder.glob(f"*{SUFFIX}") if not one.name.startswith(".")]
            there = sorted(((when, one) for when, one in found if when is not None), reverse=True)
            if there:
                return [one for _, one in there]
        return []

    def on_batch_end(self, run: RunContext) -> None:
        """Write, if it is time by steps or by the clock."""
        step = run.state.step
        every = self._every_n_train_steps
        by_step = every is not None and step != self._newest_step and step % every == 0
        by_clock = run.rank == 0 and time.monotonic() >= self._next_time  # of several clocks, one counts
        if by_step or by_clock:
            self._newest_step = step
            self._next_time = math.inf if self._seconds is None else time.monotonic() + self._seconds
            self._write(run)

    def on_val_end(self, run: RunContext) -> None:
        """Write what waited for this validation."""
        self._rank_if_measured(run)

    def decide(self, run: RunContext) -> None:
        """Write, if it is time by epochs, or if what waits was measured by the epoch."""
        by_epochs = self._every_n_train_steps is None and self._seconds is None
        due = by_epochs and (run.state.epoch + 1) % (self._every_n_epochs or 1) == 0
        if self.monitor is not None and (due or self._waits):
            due = measured(run, self.monitor) is not None and due  # raises if it is never logged
        if due:
            self._write(run)
        else:
            self._rank_if_measured(run)

    def on_fit_end(self, run: RunContext) -> None:
        """Write ``last.ckpt`` if none was due before the end, as Lightning does."""
        never = self.save_last and self._last is None and run.state.batch > 0
        if never and run.hub.stop_reason != SIGNAL:  # then interrupted.ckpt is written, and time is short
            self._want(run, _LAST)

    def on_checkpoint_saved(self, run: RunContext) -> None:
        """Remove the files that fell out, now that the one that took their place is complete."""
        if run.hub.last_checkpoint == self._awaited:
            for path in self._fallen if run.rank == 0 else ():
                run.hub.files.remove(path, self._key(run))
            self._fallen.clear()

    def _key(self, run: RunContext) -> str:
        """Return the name under which the run knows this callback."""
        return next(name for name, one in run.hub.keepers.items() if one is self)

    def _write(self, run: RunContext) -> None:
        self._waits = True
        self._rank_if_measured(run)
        if self.save_last:
            self._want(run, _LAST)

    def _rank_if_measured(self, run: RunContext) -> None:
        """Write what waits, if the monitor was measured with the weights as they are."""
        if not self._waits:
            return
        if self.monitor is None:
            value = float(run.state.step)
        elif run.hub.measured_at.get(self.monitor) == run.state.step:
            value = run.state.metrics[self.monitor]
        else:
            return
        self._waits = False
        if self.save_top_k and self._ranks(value):
            self._want(run, self._name(run), ranked=True, value=float32(value))

    def _want(self, run: RunContext, name: str, *, ranked: bool = False, value: float = 0.0) -> None:
        pending = run.hub.pending_checkpoints
        how = (self.sharded, self.hard_links, self.asynchronous)
        wanted = CheckpointRequest(self._key(run), name, ranked, value, *how)
        last = replace(wanted, name=_LAST, ranked=False)
        # A step asks for last.ckpt before the monitor is measured; last.ckpt is yet the newest file of its step.
        pending.insert(pending.index(last) if ranked and last in pending else len(pending), wanted)

    def take(self, wanted: CheckpointRequest, run: RunContext) -> Path | None:
        """Return where to write, on rank 0: the name that was wanted, or its next version that is not taken."""
        path = self.folder(run.config, run.hub.files) / wanted.name
        if not wanted.ranked:
            self._last = self.last_model_path = run.hub.files.take(path, wanted.owner, self._last)
            return self._last
        if not self._ranks(wanted.value):
            return None
        full = self.save_top_k != -1 and len(self.best_k_models) >= self.save_top_k
        falling = self.best_k_models[-1][0] if full else None
        found = run.hub.files.take(path, wanted.owner, falling)
        self._keep(found, wanted.value)
        if found == falling:
            self._fallen.remove(found)  # it is replaced in one piece
        self._awaited = self.last_model_path = found
        return found

    def _ranks(self, value: float) -> bool:
        """Return whether ``value`` belongs to the best."""
        if self.save_top_k == -1 or len(self.best_k_models) < self.save_top_k:
            return True
        return self._better(value, self.best_k_models[-1][1])

    def _better(self, value: float, other: float) -> bool:
        """Return whether ``value`` beats ``other``; NaN beats nothing, and anything beats it."""
        if math.isnan(value) or math.isnan(other):
            return math.isnan(other) and not math.isnan(value)
        return self.monitor is None or improved(value, other, self.mode)

    def _keep(self, path: Path, value: float) -> None:
        """Rank a file, and drop the worst one beyond the limit."""
        if self.save_top_k != -1 and len(self.best_k_models) >= self.save_top_k:
            self._fallen.append(self.best_k_models.pop()[0])
        place = next((i for i, (_, other) in enumerate(self.best_k_models) if self._better(value, other)), None)
        self.best_k_models.insert(len(self.best_k_models) if place is None else place, (path, value))

    def _name(self, run: RunContext) -> str:
        return self.template.fill({**run.state.metrics, "epoch": run.state.epoch, "step": run.state.step})

    def state_dict(self) -> dict[str, Any]:
        """Return the kept files and their values."""
        return {
            "best_k_models": [[str(path), value] for path, value in self.best_k_models],
            "last_model_path": _text(self.last_model_path),
            "last": _text(self._last),
            "awaited": _text(self._awaited),
            "fallen": [str(path) for path in self._fallen],
            "newest_step": self._newest_step,
            "waits": self._waits,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.best_k_models = [(Path(path), value) for path, value in state["best_k_models"]]
        self.last_model_path = _path(state["last_model_path"])
        older = state["last_model_path"] if Path(state["last_model_path"] or "").name == _LAST else None
        self._last, self._awaited = _path(state.get("last", older)), _path(state.get("awaited"))
        self._newest_step = state["newest_step"]
        self._waits = state.get("waits", False)
        fallen = state.get("fallen")  # files of older releases do not name any
        known = self._fallen if fallen is None else [Path(path) for path in fallen]
        self._fallen = [path for path in known if path not in self.written_paths()]

    def why_no_file(self, run: RunContext) -> str | None:
        """Return why a fit that is over wrote no file; None if it wrote one, or was to write none."""
        if self.last_model_path is not None or not (self.save_top_k or self.save_last):
            return None
        if self.monitor is not None and self.monitor not in run.state.metrics:
            return f"{self.monitor!r} was never measured"
        if self._waits:
            return f"{self.monitor!r} was not measured again after a save was due"
        return f"its interval is longer than the run of {run.state.batch} batches and {run.state.step} steps"

    def written_paths(self) -> list[Path]:
        """Return the files that it has written and kept."""
        return [path for path, _ in self.best_k_models] + ([] if self._last is None else [self._last])

    def continue_in(self, files: Ledger, owner: str, moved: Callable[[Path], Path]) -> None:
        """Own the files of the run that is resumed, if they are where this run writes; else start over, and say so.

        Args:
            files: The files that it wrote.
            owner: The name under which the run knows this callback.
            moved: Says where a file is now, whose folder may have been renamed.
        """
        folder = self.target(files)
        before = {moved(path).parent for path in self.written_paths()}
        here = [one for one in before if folder is not None and _same(one, folder)]
        if before and not here:
            warnings.warn(
                f"ModelCheckpoint writes into {folder or 'a new folder'} from now on; files of the resumed run in"
                f" {', '.join(sorted(map(str, before)))} stay there and are not ranked.",
                stacklevel=2,
            )

        def found(path: Path | None) -> Path | None:
            there = None if path is None else moved(path)
            return there if there is not None and there.parent in here and there.exists() else None

        self.best_k_models = [(now, value) for path, value in self.best_k_models if (now := found(path)) is not None]
        self._last, self.last_model_path = found(self._last), found(self.last_model_path)
        self._awaited = None
        self._fallen = [now for path in self._fallen if (now := found(path)) is not None]  # a kill may have come before
        for path in (*self.written_paths(), *self._fallen):
            files.inherit(path, owner)


def _written(path: Path) -> int | None:
    """Return when a file was written; None if it is gone by now, or a link to nothing."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
