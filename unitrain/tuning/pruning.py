"""The callback that reports a metric to a trial, and stops the fit if the trial is pruned."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol

from unitrain.callbacks.callback import EpochDecision
from unitrain.callbacks.comparison import measured, require_monitor
from unitrain.errors import ConfigError, named_arguments
from unitrain.run.stopping import CUT, PRUNED

if TYPE_CHECKING:
    from unitrain.run.context import RunContext


class Reports(Protocol):
    """A trial that accepts values, such as Optuna's."""

    def report(self, value: float, step: int) -> None:
        """Store the value of an epoch."""

    def should_prune(self) -> bool:
        """Return whether to stop."""


@named_arguments(ConfigError)
class Pruning(EpochDecision):
    """Reports a metric to an Optuna trial after each epoch, and stops the fit if the trial should be pruned.

    The fit ends cleanly, with FIT_END and checkpoints, and then raises ``optuna.TrialPruned``, so an objective needs no
    further code. With several processes, rank 0 reports and all stop in the same epoch. An epoch that Ctrl-C or SIGTERM
    interrupts is not reported; the resumed run reports it.

    ``unitrain.tune`` adds it itself.

    Attributes:
        pruned_epoch: The epoch (from 0) in which the trial was pruned, or None.

    Args:
        trial: The Optuna trial. Under torchrun, a ``TorchDistributedTrial``, or None on all ranks except 0.
        monitor: The metric's full name, such as ``"val/acc"``.

    Raises:
        ConfigError: If ``monitor`` is not a string, or ``trial`` is not an Optuna trial.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     trainer = UnifiedTrainer(
        ...         "reference", max_epochs=2, enable_progress_bar=False, callbacks=[Pruning(trial, "train/loss")]
        ...     )
        ...     return trainer.fit(spec, batches).metrics["train/loss"]
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study()
        >>> study.optimize(objective, n_trials=2)
        >>> [len(trial.intermediate_values) for trial in study.trials]
        [2, 2]
    """

    def __init__(self, trial: Reports | None, monitor: str) -> None:
        require_monitor("Pruning", monitor, "min")
        if trial is not None and not all(callable(getattr(trial, name, None)) for name in _METHODS):
            raise ConfigError(
                f"Pruning(trial=) must be an Optuna trial; got {trial!r}.", hint='Pruning(trial, "val/loss")'
            )
        self.trial = trial
        self.monitor = monitor
        self.reset_state()

    def __getstate__(self) -> dict[str, Any]:
        """Refuse a trial stored in this process's memory, to which no other process can report.

        Raises:
            ConfigError: If it is.
        """
        storage = getattr(self.trial, "storage", None)
        if type(storage).__name__ == "InMemoryStorage":
            raise ConfigError(
                "Pruning: the study is in this process's memory, where the processes of the run cannot report to it.",
                hint='optuna.create_study(storage=unitrain.compat.optuna.make_storage("journal:///study.log"))',
            )
        return self.__dict__

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.pruned_epoch: int | None = None

    def asked(self) -> str | None:
        """Return the reason to stop, if the trial was pruned."""
        return None if self.pruned_epoch is None else PRUNED

    def decide(self, run: RunContext) -> None:
        """Report what the epoch measured, and ask for the end if the trial is to be pruned."""
        if run.hub.within_epoch and run.hub.stop_reason in CUT:  # who resumes reports the whole epoch
            return
        value = measured(run, self.monitor)
        if value is None or self.trial is None or not self._reports_here(run):
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The reported value is ignored")  # by the run that was resumed
            self.trial.report(value, run.state.epoch)
        if self.trial.should_prune():
            self.pruned_epoch = run.state.epoch
            run.hub.request_stop(PRUNED)

    def _reports_here(self, run: RunContext) -> bool:
        return run.rank == 0 or type(self.trial).__name__ == _COLLECTIVE

    def state_dict(self) -> dict[str, Any]:
        """Return when the trial was pruned."""
        return {"pruned_epoch": self.pruned_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by ``state_dict``."""
        self.pruned_epoch = state["pruned_epoch"]


_METHODS = ("report", "should_prune")
_COLLECTIVE = "TorchDistributedTrial"
"""Optuna's trial of several processes, whose methods all of them call."""
