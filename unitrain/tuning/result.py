"""The result of a study."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import ModelCheckpoint
from unitrain.errors import ConfigError, UnitrainError, install_hint
from unitrain.reports.html.notebook import summary
from unitrain.trainer import UnifiedTrainer
from unitrain.tuning.plan import data_for_trial, for_trial
from unitrain.tuning.queue import OURS
from unitrain.tuning.trial import options_of, require_spec, surroundings
from unitrain.tuning.trial_checkpoints import final_checkpoint, newest_checkpoint
from unitrain.utilities.columns import in_columns
from unitrain.utilities.rng import preserved_rng, seed_everything

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.run.result import FitResult
    from unitrain.spec import TrainSpec
    from unitrain.tuning.plan import StudyPlan

_SHOWN = 10
"""How many trials the table of a study shows."""


@dataclass(frozen=True)
class TuneResult:
    """The result of ``tune`` so far.

    Attributes:
        study: The Optuna study, for Optuna's own tools.
        plan: The arguments of the study.
        stopped_by: ``"n_trials"``, ``"timeout"`` or ``"signal"``; after the last two, another call continues the study.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> def make_spec(trial):
        ...     sgd = partial(torch.optim.SGD, lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True))
        ...     return TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=sgd)
        >>> result = tune(
        ...     make_spec, batches, n_trials=3, monitor="train/loss", framework="reference",
        ...     trainer={"max_epochs": 2}, enable_progress_bar=False,
        ... )
        >>> len(result.trials), result.best_params.keys()
        (3, dict_keys(['lr']))
    """

    study: Any = field(repr=False)
    plan: StudyPlan = field(repr=False)
    stopped_by: str

    @property
    def trials(self) -> list[Any]:
        """The trials, as Optuna's ``FrozenTrial``."""
        return [one for one in self.study.get_trials(deepcopy=False) if one.system_attrs.get(OURS)]

    @property
    def best_trial(self) -> Any:
        """The best trial.

        Raises:
            ConfigError: If no trial is complete, or the study has several objectives.
        """
        if len(self.plan.monitor) > 1:
            raise ConfigError(
                "a study with several objectives has no single best trial.", hint="result.study.best_trials"
            )
        complete = [one for one in self.trials if one.state.name == "COMPLETE"]
        if not complete:
            raise ConfigError("no trial of the study is complete.", hint="print(result) shows the state of each.")
        return (min if self.plan.mode == "min" else max)(complete, key=lambda one: one.value)

    @property
    def best_params(self) -> dict[str, Any]:
        """The parameters of the best trial."""
        return dict(self.best_trial.params)

    @property
    def best_value(self) -> float:
        """The value of the best trial."""
        return float(self.best_trial.value)

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the best trial.

        It contains the weights of the last epoch, or with ``value="best"`` of the best one.

        Raises:
            CheckpointError: If it is not in ``dirpath``: another machine, with another folder, ended the trial.
        """
        return final_checkpoint(self.plan, self.best_trial)

    def best_spec(self) -> TrainSpec:
        """Return the spec of the best trial, with the trial's initial weights."""
        return self._spec(self.best_trial)

    def _spec(self, trial: Any) -> TrainSpec:
        with preserved_rng():
            seed_everything(self.plan.seed)
            return require_spec(self.plan.make_spec(_fixed(trial)))

    def resume(self, number: int, **options: Any) -> FitResult:
        """Resume the fit of a pruned trial and run it to its end; the study and the trial's files are unchanged.

        Args:
            number: Number of the trial.
            **options: Options of ``UnifiedTrainer`` to change, such as ``max_epochs=50``.

        Returns:
            The result of the fit; its ``last_checkpoint``, in ``trial-<number>-resumed``, has the weights.

        Raises:
            ConfigError: If there is no such trial, or its checkpoint is not on this machine.
        """
        trial = next((one for one in self.trials if one.number == number), None)
        if trial is None:
            raise ConfigError(f"the study has no trial {number!r}.", hint=f"0 to {len(self.trials) - 1}.")
        checkpoint = newest_checkpoint(self.plan.folder(number))
        if checkpoint is None:
            raise ConfigError(
                f"trial {number} has no checkpoint in {self.plan.folder(number)}.",
                hint="call resume() on the machine that ran the trial.",
            )
        plan, fixed = self.plan, _fixed(trial)
        given = {"enable_progress_bar": False, **options_of(plan, fixed), **options}
        folder = plan.folder(number).with_name(f"{plan.folder(number).name}-resumed")
        given["callbacks"] = (*given.get("callbacks", ()), ModelCheckpoint(folder, save_top_k=0, save_last=True))
        trainer = UnifiedTrainer(for_trial(plan.framework, fixed), **given, seed=plan.seed, default_root_dir=folder)
        with warnings.catch_warnings(), surroundings(plan):
            warnings.filterwarnings("ignore", ".*callbacks not in this run")  # those of the study
            train, val = (data_for_trial(one, fixed) for one in (plan.train, plan.val))
            return trainer.fit(self._spec(trial), train, val, ckpt_path=checkpoint)

    def dataframe(self) -> Any:
        """Return the trials as a pandas DataFrame.

        Raises:
            UnitrainError: If pandas is not installed.
        """
        try:
            return self.study.trials_dataframe()
        except ImportError as error:
            raise UnitrainError("TuneResult.dataframe needs pandas.", hint="pip install pandas") from error

    def plot(self, path: str | Path) -> None:
        """Write a picture: history, importances, learning curves and parallel coordinates.

        Args:
            path: The file; its suffix sets the format.

        Raises:
            UnitrainError: If matplotlib is not installed, or the file cannot be written.
        """
        try:
            from unitrain.tuning.report.plots import plot_study  # noqa: PLC0415 - matplotlib is an extra
        except ModuleNotFoundError as error:
            raise UnitrainError("TuneResult.plot needs matplotlib.", hint=install_hint("plot")) from error
        plot_study(self, path)

    def __str__(self) -> str:
        """The study as a table: the best trials first."""
        header, rows, left = self._table()
        lines = [self._headline(), *(in_columns([header, *rows]) if rows else [])]
        return "\n".join([*lines, *([f"and {left} more in .trials"] if left else [])])

    def _headline(self) -> str:
        trials = self.trials
        states = Counter(one.state.name.lower() for one in trials)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(states.items()))
        ended = f", stopped by {self.stopped_by}" if self.stopped_by else ""
        return f"study {self.plan.study_name!r}: {len(trials)} trials ({counts}){ended}"

    def _table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]], int]:
        """Return the headers, the rows of the best trials, and how many more there are."""
        ranked = sorted((one for one in self.trials if one.values), key=self.plan.rank)
        names = sorted({name for one in ranked for name in one.params})
        rows = [self._row(one, names) for one in ranked[:_SHOWN]]
        return ("trial", "state", *self.plan.monitor, *names), rows, max(0, len(ranked) - _SHOWN)

    def _row(self, trial: Any, names: list[str]) -> tuple[str, ...]:
        values = [f"{one:.6g}" for one in trial.values] + [""] * (len(self.plan.monitor) - len(trial.values))
        params = [_text(trial.params.get(one, "")) for one in names]
        return (str(trial.number), trial.state.name.lower(), *values, *params)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """For notebooks: the best trials."""
        header, rows, left = self._table()
        return summary(self._headline(), header, rows, f"and {left} more in .trials" if left else "")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _fixed(trial: Any) -> Any:
    """Return a trial whose suggestions are the parameters of a finished trial."""
    import optuna  # noqa: PLC0415 - an extra

    return optuna.trial.FixedTrial(trial.params, number=trial.number)
