"""The folder of a run: ``runs/7`` with its configuration, record, metrics and checkpoints."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import ModelCheckpoint
from unitrain.checkpoint.resume import find_checkpoint
from unitrain.config import TrainerConfig
from unitrain.errors import ConfigError
from unitrain.reports.run import record
from unitrain.utilities.files import failing_as, user_path, written
from unitrain.utilities.ledger import FOLDER
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitrain.cli.configuration.configuration import Built, Configuration
    from unitrain.run.context import RunContext
    from unitrain.run.result import FitResult

RUNS, CONFIG = "runs", "config.yaml"
_OURS = (CONFIG, record.FILE, "hparams.json")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run that is about to begin.

    Attributes:
        path: The folder.
        configuration: What runs.
        title: The model, as text.
        resumed_from: The checkpoint that it goes on from, if any.
        new_parent: Whether its ``runs`` was made for it.
    """

    path: Path
    configuration: Configuration
    title: str
    resumed_from: str | None = None
    new_parent: bool = False

    def begin(self, run: RunContext) -> None:
        """Write the record; the trainer calls this when training starts, on each process."""
        if run.rank == 0:
            with preserved_rng():
                self.write_record()

    def write_record(self) -> None:
        """Write the record, with the status ``"running"``."""
        tree = self.configuration.tree
        record.begin_record(
            self.path,
            config=self.configuration.text,
            spec=self.title,
            framework=tree["framework"],
            seed=tree["seed"],
            resumed_from=self.resumed_from,
        )

    @property
    def begun(self) -> bool:
        """Whether training has started."""
        return (self.path / record.FILE).exists()

    @property
    def contents(self) -> str:
        """What is in it, in words; a resumed run that had already ended measures and saves nothing."""
        kept = {"metrics.csv": "metrics", FOLDER: "checkpoints"}
        *names, last = "the configuration", "the record", *(kept[one] for one in kept if (self.path / one).exists())
        return f"{', '.join(names)} and {last}"

    def end(self, outcome: FitResult | BaseException, warned: Sequence[Any]) -> None:
        """Complete the record; if training never started, remove the folder instead."""
        if isinstance(outcome, BaseException) and not self.begun:
            self.remove()
            return
        if not self.begun:
            self.write_record()
        record.end_record(self.path, outcome, warned)

    def remove(self) -> None:
        """Remove the folder, unless it has anything else by now."""
        with suppress(OSError):
            if not {one.name for one in self.path.iterdir()} - {*_OURS}:
                for name in _OURS:
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()
                if self.new_parent:
                    self.path.parent.rmdir()  # if no other run came


def new_run(root: str | Path, configuration: Configuration, title: str) -> RunFolder:
    """Create the folder of the next run, and write the configuration into it.

    Args:
        root: The trainer's ``default_root_dir``.
        configuration: What will run.
        title: The model, as text.

    Raises:
        ConfigError: If it cannot be written.
    """
    parent = _checked_path(root) / RUNS
    with failing_as(ConfigError, parent):
        new_parent = not parent.exists()
        parent.mkdir(parents=True, exist_ok=True)
        for number in count(1 + max(_numbers(parent), default=0)):
            path = parent / str(number)
            with suppress(FileExistsError):  # another run was faster
                path.mkdir(parents=True)  # a failed run may just have removed `runs`
                break
    folder = RunFolder(path, configuration, title, new_parent=new_parent)
    try:
        with failing_as(ConfigError, path / CONFIG), written(path / CONFIG, new=True) as file:
            file.write(configuration.text.encode())
    except BaseException:
        folder.end(KeyboardInterrupt(), ())
        raise
    return folder


def _checked_path(root: str | Path) -> Path:
    """Return the path of a folder, unless no system could have it."""
    with suppress(UnicodeEncodeError):
        if b"\0" not in os.fsencode(root):
            return user_path(root)
    raise ConfigError(f"trainer.default_root_dir: {root!r} is not a path.", hint="--trainer.default_root_dir outputs")


def _numbers(parent: Path) -> list[int]:
    return [int(one.name) for one in parent.iterdir() if one.name.isdecimal()]


def home_of(paths: Sequence[str]) -> Path | None:
    """Return the folder of the last run whose configuration is among ``paths``; None if none is a run's."""
    ours = (one.parent for one in map(user_path, reversed(paths)) if one.name == CONFIG)
    return next((folder for folder in ours if (folder / record.FILE).exists()), None)


def origin_of(home: Path | None) -> str | None:
    """Return the checkpoint from which a run was resumed, by its record; None if it was not."""
    with suppress(ConfigError):  # a damaged record says nothing
        return None if home is None else record.read_record(home).resumed_from
    return None


def with_keeper(built: Built) -> Built:
    """Return what was built with a callback that writes checkpoints, if it has none; other code has its framework's."""
    options = built.trainer_options
    if not built.is_spec or options["fast_dev_run"] or any(map(_is_keeper, callbacks_of(built))):
        return built
    callbacks = [*options["callbacks"], ModelCheckpoint(save_last=True)]
    return replace(built, trainer_options={**options, "callbacks": callbacks})


def callbacks_of(built: Built) -> list[Any]:
    """Return the callbacks of the spec and of the trainer."""
    return [*(built.spec.callbacks if built.is_spec else ()), *built.trainer_options["callbacks"]]


def _is_keeper(callback: Any) -> bool:
    """Return whether a callback writes checkpoints: unitrain's or a framework's own."""
    return any(kind.__name__ == "ModelCheckpoint" for kind in type(callback).__mro__)


def checkpoint_of(given: str, home: Path | None, built: Built) -> Path:
    """Return the file that ``--ckpt_path`` names.

    Args:
        given: A path, ``"best"`` or ``"last"``.
        home: The folder of the run whose configuration was given.
        built: The callbacks, which know where their files are, and the trainer's ``default_root_dir``.

    Raises:
        ConfigError: If there is no such checkpoint.
    """
    if given not in ("best", "last"):
        path = user_path(given)
        if not path.exists():
            raise ConfigError(
                f"--ckpt_path {given!r}: there is no such file.", hint="--ckpt_path best, last or a path."
            )
        return path
    root = user_path(built.trainer_options["default_root_dir"])
    keepers = [one for one in callbacks_of(built) if isinstance(one, ModelCheckpoint)]
    if not built.is_spec or any(one.dirpath is not None for one in keepers):  # a folder that other runs may write to
        found = _recorded(given, home) or _searched(given, root if home is None else home, keepers)
    else:  # the folder may have been moved since
        found = _searched(given, root if home is None else home, keepers) or _recorded(given, home)
    if found is None:
        raise ConfigError(
            f"--ckpt_path {given}: no checkpoint was found of {'the given configuration' if home is None else home}.",
            hint=f"--config {root / RUNS / 'N' / CONFIG} --ckpt_path {given}, or the path of a checkpoint.",
        )
    return found


def _searched(given: str, root: Path, keepers: list[ModelCheckpoint]) -> Path | None:
    """Return the best or last checkpoint in the folders of ``keepers``."""
    try:
        return find_checkpoint(given, keepers or [ModelCheckpoint()], None, TrainerConfig(default_root_dir=root))
    except ConfigError:
        return None


def _recorded(given: str, home: Path | None) -> Path | None:
    """Return the best or last checkpoint that the record of a run names, if it is still there."""
    try:
        path = None if home is None else getattr(record.read_record(home), f"{given}_checkpoint")
    except ConfigError:
        return None
    return Path(path) if path is not None and Path(path).exists() else None
