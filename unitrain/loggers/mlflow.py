"""Sends a run to MLflow."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.errors import BackendNotInstalledError, install_hint
from unitrain.loggers.logger import flat

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 100
"""Parameters in one request, MLflow's limit."""

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow would try for minutes while training waits; unitrain keeps the rows and tries again by itself."""

_STATUS = {"success": "FINISHED", "finished": "FINISHED"}


class MLflowLogger:
    """Sends a run to an MLflow server, or into a local store.

    Each request is tried once, for at most ten seconds, unless MLflow's own environment variables say otherwise.

    Args:
        experiment: The name of the experiment; it is made if there is none.
        tracking_uri: The server, as ``"http://127.0.0.1:5000"``, or a store; by default MLflow's own choice.
        run_name: The name of the run.
        run_id: A run to go on with; one that is resumed in a new process is a run of its own without it.

    Raises:
        BackendNotInstalledError: If mlflow is not installed.
    """

    def __init__(
        self,
        experiment: str = "unitrain",
        *,
        tracking_uri: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
    ) -> None:
        try:
            import mlflow  # noqa: PLC0415 - it takes seconds, and only those who use it need it
        except ModuleNotFoundError as error:
            raise BackendNotInstalledError(
                "MLflowLogger needs the package mlflow, which is not installed.", hint=install_hint("mlflow")
            ) from error
        self._mlflow = mlflow
        self._experiment = experiment
        self._uri = tracking_uri
        self._run_name = run_name
        self._given = run_id
        self._client: Any = None
        self.run_id = run_id

    def begin(self, rows: int) -> None:
        """Start a run, or go on with the last one."""
        if rows == 0:
            self.run_id = self._given

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Send one row."""
        now = int(time.time() * 1000)
        entities = self._mlflow.entities
        row = [entities.Metric(name, float(value), now, step) for name, value in metrics.items()]
        with _impatient():
            self._open().log_batch(self.run_id, metrics=row)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Send the hyper-parameters, nested ones as ``outer/inner``."""
        entities = self._mlflow.entities
        found = [entities.Param(name, str(value)) for name, value in flat(params)]
        with _impatient():
            client = self._open()
            for first in range(0, len(found), _AT_ONCE):
                client.log_batch(self.run_id, params=found[first : first + _AT_ONCE])

    def save(self) -> None:
        """Do nothing: each row is sent at once."""

    def finalize(self, status: str) -> None:
        """End the run."""
        if self.run_id is not None:
            with _impatient():
                self._open().set_terminated(self.run_id, _STATUS.get(status, "FAILED"))

    def _open(self) -> Any:
        """Return a client, after a run was made if there is none."""
        if self._client is None:
            self._client = self._mlflow.MlflowClient(tracking_uri=self._uri)
        if self.run_id is None:
            found = self._client.get_experiment_by_name(self._experiment)
            number = self._client.create_experiment(self._experiment) if found is None else found.experiment_id
            self.run_id = self._client.create_run(number, run_name=self._run_name).info.run_id
        return self._client


@contextmanager
def _impatient() -> Iterator[None]:
    """Keep MLflow from trying for minutes, unless the user told it to."""
    changed = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
