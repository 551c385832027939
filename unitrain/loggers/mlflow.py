"""Sends a run to MLflow."""

from __future__ import annotations

import copy
import os
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.compat.mlflow import refuse_file_store
from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint, named_arguments
from unitrain.loggers.figures import file_name
from unitrain.loggers.logger import Library, flat
from unitrain.loggers.names import MLflowNames
from unitrain.utilities.files import user_path
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AT_ONCE = 100
"""MLflow's limit of parameters per request."""

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""MLflow would retry for minutes while training waits; unitrain keeps the rows and retries itself."""

_SQLITE = "sqlite:///"

_PARENT = "mlflow.parentRunId"
_STATUS = {"success": "FINISHED", "finished": "FINISHED"}


@named_arguments(ConfigError, callback_arguments_for)
class MLflowLogger(Shown):
    """Sends a run to an MLflow server, or into a local store.

    Each request is tried once, for at most ten seconds, unless MLflow's own environment variables say otherwise.

    Args:
        experiment: Name of the experiment; created if it does not exist.
        tracking_uri: The server, such as ``"http://127.0.0.1:5000"``, or a store; by default MLflow's own choice.
        run_name: Name of the run.
        run_id: A run to continue. Without it, a resumed fit continues the run that its checkpoint names, in a new
            process too, if the experiment and tracking_uri are the same. Values that the interrupted run logged after
            the checkpoint then appear twice.

    Raises:
        BackendNotInstalledError: If mlflow is not installed.
        ConfigError: If it is a file store, which the installed MLflow does not support.

    Example:
        >>> tracker = MLflowLogger("digits", tracking_uri="sqlite:///mlruns.db")
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
            import mlflow  # noqa: F401, PLC0415 - it takes seconds, and only those who use it need it
        except ModuleNotFoundError as error:
            raise BackendNotInstalledError(
                "MLflowLogger needs the package mlflow, which is not installed.", hint=install_hint("mlflow")
            ) from error
        refuse_file_store(tracking_uri)
        self._mlflow: Any = Library("mlflow")
        self._experiment = experiment
        self._tracking_uri = tracking_uri
        self._address = _absolute(tracking_uri)
        self._run_name = run_name
        self._run_id = run_id
        self._client: Any = None
        self._names = MLflowNames()
        self._unseen = False
        self._tags: dict[str, str] = {}
        self.run_id = run_id

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the client, which holds a connection."""
        return {**vars(self), "_client": None}

    def begin_group(self, study: str) -> dict[str, str]:
        """Create the parent run of a study's runs."""
        parent = MLflowLogger(self._experiment, tracking_uri=self._tracking_uri, run_name=study)
        with impatient():
            parent._open()
        return {"run_id": str(parent.run_id)}

    def for_trial(self, name: str, group: Mapping[str, Any]) -> MLflowLogger:
        """Return the tracker of a trial; it continues the run of an earlier worker, if there is one."""
        made = copy.copy(self)
        vars(made).update(_run_name=name, _run_id=None, run_id=None, _tags={_PARENT: group["run_id"]})
        with impatient():
            made._take_over(  # noqa: SLF001 - our own copy
                f"tags.{_PARENT} = '{group['run_id']}' and attributes.run_name = '{name}'"
            )
        return made

    def end_trial(self, state: str, params: dict[str, Any], values: Mapping[str, float | None]) -> None:  # noqa: ARG002 - they are in the run
        """Tag the trial's run with its state, store the values of its objectives, and end the run."""
        with impatient():
            client = self._open()
            client.set_tag(self.run_id, "state", state)
            for name, value in values.items():
                if value is not None:
                    client.log_metric(self.run_id, self._names(f"objective/{name}"), value)
            client.set_terminated(self.run_id, "FAILED" if state == "FAIL" else "FINISHED")

    def end_group(self, group: Mapping[str, Any]) -> None:
        """End the run of a study."""
        MLflowLogger(self._experiment, tracking_uri=self._tracking_uri, run_id=group["run_id"]).finalize("success")

    def _take_over(self, search: str) -> None:
        """Create the run of a trial, or continue an existing one."""
        client = self._connected()
        found = client.search_runs([self._number()], search, max_results=1)
        if found:
            self._run_id = self.run_id = found[0].info.run_id
            self._unseen = True
        else:
            self._open()
            self._run_id = self.run_id

    def begin(self, rows: int) -> None:
        """Start a run, or continue with the last one."""
        if self._client is None:
            self._address = _absolute(self._tracking_uri)
        if rows == 0:
            self.run_id, self._unseen = self._run_id, bool(self._tags and self._run_id)

    def run_state(self) -> dict[str, Any]:
        """Return the run's id and where it is."""
        return {} if self.run_id is None else {"run_id": self.run_id, **self._place()}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Continue the run of ``state``, if it has the same location."""
        if self._run_id is None and all(state.get(name) == value for name, value in self._place().items()):
            self.run_id, self._unseen = state["run_id"], True

    def _place(self) -> dict[str, Any]:
        uri = self._tracking_uri if self._tracking_uri is not None else self._mlflow.get_tracking_uri()
        return {"tracking_uri": str(uri), "experiment": self._experiment}

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Send one row."""
        now = int(time.time() * 1000)
        entities = self._mlflow.entities
        row = [entities.Metric(self._names(name), float(value), now, step) for name, value in metrics.items()]
        with impatient():
            self._open().log_batch(self.run_id, metrics=row)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Send the hyper-parameters, nested ones as ``outer/inner``."""
        entities = self._mlflow.entities
        found = [entities.Param(self._names(name), str(value)) for name, value in flat(params)]
        with impatient():
            client = self._open()
            for first in range(0, len(found), _AT_ONCE):
                client.log_batch(self.run_id, params=found[first : first + _AT_ONCE])

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Store a figure among the run's artifacts."""
        with impatient():
            self._open().log_figure(self.run_id, figure, file_name(name, step))

    def save(self) -> None:
        """Do nothing: each row is sent at once."""

    def finalize(self, status: str) -> None:
        """End the run."""
        if self.run_id is not None:
            with impatient():
                self._open().set_terminated(self.run_id, _STATUS.get(status, "FAILED"))

    def _open(self) -> Any:
        """Return a client, after a run was made if there is none."""
        self._connected()
        if self._unseen:
            self.run_id, self._unseen = self._taken_up(), False
        if self.run_id is None:
            made = self._client.create_run(self._number(), run_name=self._run_name, tags=self._tags or None)
            self.run_id = made.info.run_id
        return self._client

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._mlflow.MlflowClient(tracking_uri=self._address)
        return self._client

    def _number(self) -> str:
        """Return the number of the experiment, which is made if there is none."""
        found = self._client.get_experiment_by_name(self._experiment)
        return str(self._client.create_experiment(self._experiment) if found is None else found.experiment_id)

    def _taken_up(self) -> str | None:
        """Set the run of a checkpoint running again; return None if the server does not have it any more."""
        try:
            gone = self._client.get_run(self.run_id).info.lifecycle_stage == "deleted"
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            gone = True
        if gone:
            warnings.warn(
                f"the checkpoint's MLflow run {self.run_id} does not exist; starting a new one.", stacklevel=2
            )
            return None
        self._client.update_run(self.run_id, status="RUNNING")
        return self.run_id


def _absolute(uri: str | None) -> str | None:
    """Return the address of a store; that of a SQLite file as it is now, whatever ``os.chdir`` comes later."""
    path = (uri or "").removeprefix(_SQLITE)
    if path in (uri or "", "", ":memory:"):
        return uri
    return f"{_SQLITE}{user_path(path).absolute()}"


@contextmanager
def impatient() -> Iterator[None]:
    """Keep MLflow from trying for minutes, unless the user told it to."""
    changed = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            os.environ.pop(name, None)
