"""Sends a run to Weights & Biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unitrain.errors import BackendNotInstalledError, install_hint


class WandbLogger:
    """Sends a run to Weights & Biases, or with ``mode="offline"`` into a folder, for ``wandb sync``.

    Args:
        project: The project.
        name: The name of the run; by default W&B makes one up.
        save_dir: Where the folder ``wandb`` is made.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``; by default what W&B is set to.
        **options: Further arguments of ``wandb.init``, as ``id=..., resume="allow"`` for a run that is resumed.

    Raises:
        BackendNotInstalledError: If wandb is not installed.
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
            import wandb  # noqa: PLC0415 - it takes a second, and only those who use it need it
        except ModuleNotFoundError as error:
            raise BackendNotInstalledError(
                "WandbLogger needs the package wandb, which is not installed.", hint=install_hint("wandb")
            ) from error
        self._wandb = wandb
        self._options = {"project": project, "name": name, "dir": str(save_dir), "mode": mode, **options}
        self._run: Any = None

    @property
    def run(self) -> Any:
        """The real run, for artifacts and tables of one's own; it is made when it is first used."""
        if self._run is None:
            Path(self._options["dir"]).mkdir(parents=True, exist_ok=True)
            self._run = self._wandb.init(**self._options)
        return self._run

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Log one row; two rows of one step are one row of W&B."""
        self.run.log(metrics, step=step)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Put the hyper-parameters into the run's config."""
        self.run.config.update(params, allow_val_change=True)

    def save(self) -> None:
        """Do nothing: W&B writes by itself."""

    def finalize(self, status: str) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status in ("success", "finished") else 1)
            self._run = None
