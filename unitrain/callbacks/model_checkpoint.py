"""Keeps checkpoints: the best by a metric, the last, or one every so often."""

from __future__ import annotations

import math
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Decider
from unitrain.callbacks.decision import Mode, improved, measured, require_monitor
from unitrain.errors import ConfigError
from unitrain.metrics import float32

if TYPE_CHECKING:
    from datetime import timedelta

    from unitrain.config import TrainerConfig
    from unitrain.context import RunContext

_FIELD = re.compile(r"\{([\w/-]+)(:[^{}]*)?\}")
_SUFFIX = ".ckpt"


class ModelCheckpoint(Decider):
    """Writes portable checkpoints and keeps the best.

    It decides at an epoch's very end, in float32, as EarlyStopping does; of equal values the older is the better.
    Without a monitor the newest are the best.

    Attributes:
        best_model_path: The best file so far; None if there is none.
        best_model_score: Its value.
        last_model_path: ``last.ckpt``, or the file written last.
        best_k_models: The kept files with their values, the best first.

    Args:
        dirpath: Where to write; by default ``checkpoints`` in the trainer's ``default_root_dir``.
        filename: A template with counters and metrics, as ``"{epoch}-{val/acc:.2f}"``; a slash in a name becomes ``_``.
        monitor: The metric that ranks the files.
        mode: Whether ``"min"`` or ``"max"`` of it is better.
        save_top_k: How many to keep; 0 keeps none, -1 all.
        save_last: Keep the newest as ``last.ckpt`` too.
        every_n_epochs: Decide after each n-th epoch.
        every_n_train_steps: Write after each n-th optimizer step, instead of at epochs.
        train_time_interval: Write when so much time has passed, instead of at epochs; looked at after each batch.
        save_on_exception: If the fit fails, write ``exception.ckpt``: the state after the last batch that was done, if
            the error left it as it was; else a warning says so. The state is looked at after each batch for it.
        sharded: Write folders, each process what it holds by itself, instead of files.

    Raises:
        ConfigError: If a value cannot be meant.
    """

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
    ) -> None:
        require_monitor("ModelCheckpoint", "none" if monitor is None else monitor, mode)
        _require_count("save_top_k", save_top_k, -1)
        given = {"every_n_epochs": every_n_epochs, "every_n_train_steps": every_n_train_steps}
        for name, value in given.items():
            if value is not None:
                _require_count(name, value, 1)
        if sum(one is not None for one in (*given.values(), train_time_interval)) > 1:
            raise ConfigError(
                "ModelCheckpoint takes one of every_n_epochs, every_n_train_steps and train_time_interval.",
                hint="use two ModelCheckpoints.",
            )
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename
        self.monitor = monitor
        self.mode = mode
        self.save_top_k = save_top_k
        self.save_last = save_last
        self.save_on_exception = save_on_exception
        self.sharded = sharded
        self._every_n_epochs = every_n_epochs or 1
        self._every_n_steps = every_n_train_steps
        self._seconds = None if train_time_interval is None else train_time_interval.total_seconds()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.best_k_models: list[tuple[Path, float]] = []
        self.last_model_path: Path | None = None
        self._awaited: Path | None = None
        self._fallen: list[Path] = []
        self._newest_step = 0
        self._next_time = math.inf if self._seconds is None else time.monotonic() + self._seconds

    @property
    def best_model_path(self) -> Path | None:
        """The best file so far."""
        return self.best_k_models[0][0] if self.best_k_models else None

    @property
    def best_model_score(self) -> float | None:
        """The value of the best file."""
        return self.best_k_models[0][1] if self.best_k_models else None

    def folder(self, config: TrainerConfig) -> Path:
        """Return where it writes in a run with ``config``."""
        return self.dirpath or Path(config.default_root_dir) / "checkpoints"

    def on_batch_end(self, run: RunContext) -> None:
        """Write, if it is time by steps or by the clock."""
        step = run.state.step
        by_step = self._every_n_steps is not None and step != self._newest_step and step % self._every_n_steps == 0
        by_clock = run.rank == 0 and time.monotonic() >= self._next_time  # of several clocks, one counts
        if by_step or by_clock:
            self._newest_step = step
            self._next_time = math.inf if self._seconds is None else time.monotonic() + self._seconds
            self._consider(run)

    def decide(self, run: RunContext) -> None:
        """Write, if it is time by epochs and the epoch is among the best."""
        by_epochs = self._every_n_steps is None and self._seconds is None
        if by_epochs and (run.state.epoch + 1) % self._every_n_epochs == 0:
            self._consider(run)

    def on_checkpoint_saved(self, run: RunContext) -> None:
        """Remove the files that fell out, now that the one that took their place is complete."""
        if run.hub.saved == self._awaited:
            for path in self._fallen if run.rank == 0 else ():
                _remove(path)
            self._fallen.clear()

    def _consider(self, run: RunContext) -> None:
        folder = self.folder(run.config)
        value = self._value(run)
        if value is None:
            return
        if self.save_top_k and self._ranks(value):
            path = self._free(folder / self._name(run))
            self._keep(path, value)
            self._awaited = path
            self._write(run, path)
        if self.save_last:
            self._write(run, folder / f"last{_SUFFIX}")

    def _value(self, run: RunContext) -> float | None:
        if self.monitor is None:
            return float(run.state.step)
        by_epochs = self._every_n_steps is None and self._seconds is None
        return measured(run, self.monitor) if by_epochs else run.state.metrics.get(self.monitor)

    def _write(self, run: RunContext, path: Path) -> None:
        self.last_model_path = path
        run.save_checkpoint(path, sharded=self.sharded)

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
        """Put a file where it ranks, and remove the one that falls out."""
        value = float32(value)
        place = next((i for i, (_, other) in enumerate(self.best_k_models) if self._better(value, other)), None)
        self.best_k_models.insert(len(self.best_k_models) if place is None else place, (path, value))
        if self.save_top_k != -1 and len(self.best_k_models) > self.save_top_k:
            self._fallen.append(self.best_k_models.pop()[0])

    def _name(self, run: RunContext) -> str:
        """Fill the template: ``{epoch}`` becomes ``epoch=3``, as Lightning names its files."""
        values = {**run.state.metrics, "epoch": run.state.epoch, "step": run.state.step}

        def fill(found: re.Match[str]) -> str:
            name, form = found[1], found[2] or ""
            if name not in values:
                raise ConfigError(
                    f"ModelCheckpoint(filename={self.filename!r}): no value is called {name!r}.",
                    hint=f"there are {', '.join(sorted(values))}.",
                )
            return f"{name.replace('/', '_')}={format(values[name], form.removeprefix(':'))}"

        return f"{_FIELD.sub(fill, self.filename)}{_SUFFIX}"

    def _free(self, path: Path) -> Path:
        """Return ``path``, or its next version if one of the kept has that name."""
        kept = {one for one, _ in self.best_k_models}
        number, free = 1, path
        while free in kept:
            free = path.with_name(f"{path.stem}-v{number}{_SUFFIX}")
            number += 1
        return free

    def state_dict(self) -> dict[str, Any]:
        """Return the kept files and their values."""
        return {
            "best_k_models": [[str(path), value] for path, value in self.best_k_models],
            "last_model_path": None if self.last_model_path is None else str(self.last_model_path),
            "newest_step": self._newest_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what ``state_dict`` returned."""
        self.best_k_models = [(Path(path), value) for path, value in state["best_k_models"]]
        self.last_model_path = None if state["last_model_path"] is None else Path(state["last_model_path"])
        self._newest_step = state["newest_step"]


def _remove(path: Path) -> None:
    """Remove a file, or a folder of parts."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _require_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(
            f"ModelCheckpoint({name}=) must be an integer of at least {least}, got {value!r}.", hint=f"{name}=1"
        )
