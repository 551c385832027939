"""Sends a run to Weights & Biases."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import BackendNotInstalledError, install_hint
from unitrain.loggers.logger import Library
from unitrain.utilities.files import user_path
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Mapping


class WandbLogger:
    """Sends a run to Weights & Biases, or with ``mode="offline"`` into a folder, for ``wandb sync``.

    A resumed fit continues the run that its checkpoint names, in a new process too, with ``resume="allow"``, if the
    project and the entity are the same; so does an evaluation after a fit. Offline, each part is a folder of its own
    with the same run id. W&B accepts each step once: it drops what the interrupted run has already logged.

    Args:
        project: Name of the project.
        name: Name of the run; by default W&B generates one.
        save_dir: Parent directory of the folder ``wandb``.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; by default W&B's own setting.
        **options: Further arguments of ``wandb.init``; an ``id=`` takes precedence over a checkpoint's.

    Raises:
        BackendNotInstalledError: If wandb is not installed.

    Example:
        >>> tracker = WandbLogger(project="digits", mode="offline")
    """

    def __init__(
        self,
        project: str = "unitrain",
        name: str | None = None,
        *,
        save_dir: str | Path = ".",
        mode: str | None = None,
        **options: Any,
    ) -> None:
        try:
            import wandb  # noqa: F401, PLC0415 - it takes a second, and only those who use it need it
        except ModuleNotFoundError as error:
            raise BackendNotInstalledError(
                "WandbLogger needs the package wandb, which is not installed.", hint=install_hint("wandb")
            ) from error
        self._wandb: Any = Library("wandb")
        self._options = {"project": project, "name": name, "dir": str(user_path(save_dir)), "mode": mode, **options}
        self._here = Path.cwd()
        self._run: Any = None
        self._id: str | None = None
        self._ended = False
        self._first_step = 0
        self._began = 0

    def __repr__(self) -> str:
        """Return what the run is to be known by."""
        given = {"name": self._options["name"], "mode": self._options["mode"]}
        more = [f"{name}={shown(value)}" for name, value in given.items() if value is not None]
        return f"WandbLogger({', '.join([shown(self._options['project']), *more])})"

    def begin_group(self, study: str) -> dict[str, str]:
        """Return the group of a study's runs."""
        return {"group": study}

    def for_trial(self, name: str, group: Mapping[str, Any]) -> WandbLogger:
        """Return the tracker of a trial, in the group of its study."""
        made = copy.copy(self)
        vars(made).update(_options={"group": group["group"], **self._options, "name": name})
        return made

    def begin(self, rows: int) -> None:
        """Start a run, or continue with the last one."""
        self._ended = False
        self._here = Path.cwd()  # a later os.chdir must not split the run's files
        if rows == 0:
            self._id = None

    def run_state(self) -> dict[str, Any]:
        """Return the run's id and where it is."""
        return {} if self._id is None else {"id": self._id, **self._place()}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Continue the run of ``state``, if it has the same location."""
        if "id" not in self._options and all(state.get(name) == value for name, value in self._place().items()):
            self._id = state["id"]

    def _place(self) -> dict[str, Any]:
        return {"project": self._options["project"], "entity": self._options.get("entity")}

    @property
    def run(self) -> Any:
        """The real run, for artifacts and tables of one's own; it is made when it is first used."""
        if self._run is None:
            folder = self._here / self._options["dir"]
            folder.mkdir(parents=True, exist_ok=True)
            again = {} if self._id is None else {"id": self._id, "resume": "allow"}
            while int(time.time()) == self._began:  # a folder is named after the second in which its run began
                time.sleep(0.01)
            self._began = int(time.time())
            self._run = self._wandb.init(**{**self._options, "dir": str(folder), **again})
            self._id = self._run.id
            # an evaluation's row must not be dropped since its step was the fit's last
            self._first_step = self._run.starting_step if self._ended else 0
        return self._run

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log one row; two rows of one step are one row of W&B."""
        self.run.log(metrics, step=max(step, self._first_step))

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Log a figure as an image."""
        self.run.log({name: self._wandb.Image(figure)}, step=max(step, self._first_step))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Store the hyper-parameters in the run's config."""
        self.run.config.update(params, allow_val_change=True)

    def save(self) -> None:
        """Do nothing: W&B writes itself."""

    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status in ("success", "finished") else 1)
            self._run, self._ended = None, True
