"""Finds a learning rate: trains a copy of the model while the rate grows, and looks where the loss falls fastest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from unitrain.callbacks import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.data.combined import combined
from unitrain.data.datamodules import made
from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError, UnitrainError, install_hint, named_arguments
from unitrain.tuning.finders.search_fit import bare_copy, require_spec, trial_trainer, untouched
from unitrain.utilities.files import save_figure
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.backends.protocol import Adapter
    from unitrain.run.context import RunContext
    from unitrain.spec import TrainSpec
    from unitrain.trainer import UnifiedTrainer

_FEWEST = 3


@named_arguments(ConfigError, callback_arguments_for)
class LRFinder(Shown):
    """Tries learning rates that grow from step to step, each by the same factor, and suggests one.

    The loss is smoothed as Lightning's ``Tuner.lr_find`` and Ignite's ``FastaiLRFinder`` do. The numbers are the same
    on every backend.

    Attributes:
        results: The rate of each optimizer step and the smoothed loss at that rate, after ``run``.

    Args:
        min_lr: The rate of the first step.
        max_lr: The rate of the last step.
        num_training: Optimizer steps to try.
        smoothing: The weight of earlier losses in the smoothed loss, in [0, 1).
        early_stop_threshold: Ends the search when the loss exceeds this multiple of the best; None disables it.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> finder = LRFinder(min_lr=1e-5, max_lr=1.0, num_training=50)
        >>> finder.run("ignite", spec, train_loader).suggestion()  # doctest: +SKIP
    """

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1.0,
        num_training: int = 100,
        *,
        smoothing: float = 0.98,
        early_stop_threshold: float | None = 4.0,
    ) -> None:
        whole = isinstance(num_training, int) and not isinstance(num_training, bool)
        checks = (
            (0 < min_lr < max_lr < math.inf, f"0 < min_lr < max_lr; got {min_lr!r} and {max_lr!r}"),
            (whole and num_training >= _FEWEST, f"num_training of at least {_FEWEST}; got {num_training!r}"),
            (0 <= smoothing < 1, f"0 <= smoothing < 1; got {smoothing!r}"),
            (
                early_stop_threshold is None or early_stop_threshold > 1,
                f"a threshold above 1; got {early_stop_threshold!r}",
            ),
        )
        for good, message in checks:
            if not good:
                raise ConfigError(
                    f"LRFinder needs {message}.", hint="LRFinder(min_lr=1e-8, max_lr=1.0, num_training=100)"
                )
        self.min_lr, self.max_lr, self.num_training = min_lr, max_lr, num_training
        self.smoothing, self.early_stop_threshold = smoothing, early_stop_threshold
        self.results: list[tuple[float, float]] = []

    def run(self, trainer: UnifiedTrainer | str | Adapter, spec: TrainSpec, train_dataloaders: Any) -> LRFinder:
        """Search, on a copy of the spec's model and optimizer; model, optimizer and generators stay as they were.

        Args:
            trainer: A trainer with the framework and options to use (precision, accumulation, seed, ...), or a
                framework.
            spec: What to train; its schedules, metrics and callbacks are ignored.
            train_dataloaders: As in ``fit``; only training data is used.

        Returns:
            This object, with its ``results``.
        """
        require_spec("LRFinder", spec)
        search = _Search(self)
        runner = trial_trainer("LRFinder", trainer, max_steps=self.num_training, callbacks=(search,))
        given = train_dataloaders.train if isinstance(train_dataloaders, DataSpec) else train_dataloaders
        data: Any = combined(made(given, 0))
        with untouched(data):
            runner.fit(bare_copy(spec), data)
        self.results = search.results
        return self

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float:
        """Return the rate at which the loss fell fastest.

        Args:
            skip_begin: Steps to leave out at the beginning, where the smoothed loss is still rough.
            skip_end: Steps to leave out at the end.

        Raises:
            ConfigError: If nothing was searched yet, or too few steps are left to tell.
        """
        self._require_results("suggestion")
        rows = self.results[skip_begin : len(self.results) - skip_end]
        if len(rows) < _FEWEST:
            raise ConfigError(
                f"{len(self.results)} steps were recorded, and {skip_begin} + {skip_end} are skipped.",
                hint="use a larger num_training or a smaller skip_begin.",
            )
        slope = torch.gradient(torch.tensor([loss for _, loss in rows], dtype=torch.float64))[0]
        return rows[int(slope.argmin())][0]

    def _require_results(self, method: str) -> None:
        if not self.results:
            raise ConfigError(
                f"LRFinder.{method}() requires a search; call run() first.",
                hint=f'LRFinder().run("lightning", spec, loader).{method}(...)',
            )

    def plot(self, path: str | Path) -> None:
        """Plot the curve, with the suggestion if there is one; the suffix sets the format.

        Raises:
            ConfigError: If nothing was searched yet.
            UnitrainError: If matplotlib is not installed, or the file cannot be written.
        """
        self._require_results("plot")
        try:
            from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise UnitrainError("LRFinder.plot needs matplotlib.", hint=install_hint("plot")) from error
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot([rate for rate, _ in self.results], [loss for _, loss in self.results])
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)")
        try:
            best = self.suggestion()
        except ConfigError:
            pass  # too short a search for a suggestion
        else:
            axes.plot([best], [dict(self.results)[best]], "o", label=f"{best:.3g}")
            axes.legend()
        save_figure(figure, path, UnitrainError)


class _Search(Callback):
    """Sets the rate of each step, and notes the loss."""

    def __init__(self, finder: LRFinder) -> None:
        self._finder = finder
        self.results: list[tuple[float, float]] = []
        self._average = 0.0
        self._losses: list[float] = []

    def _rate(self) -> float:
        """Return the rate of the step that comes."""
        finder = self._finder
        share = len(self.results) / (finder.num_training - 1)
        return finder.max_lr if share >= 1 else finder.min_lr * (finder.max_lr / finder.min_lr) ** share

    def _set_rate(self, run: RunContext) -> None:
        rate = self._rate()
        for optimizer in run.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_fit_start(self, run: RunContext) -> None:
        """Begin with the lowest rate."""
        self._set_rate(run)

    def on_batch_end(self, run: RunContext) -> None:
        """Note the loss of the step, if the batch made one, and raise the rate."""
        if run.state.loss is not None:
            self._losses.append(float(run.state.loss))
        if run.state.step == len(self.results) or not self._losses:
            return
        finder, rate = self._finder, self._rate()
        loss = math.fsum(self._losses) / len(self._losses)
        self._losses = []
        self._average = finder.smoothing * self._average + (1 - finder.smoothing) * loss
        smoothed = self._average / (1 - finder.smoothing ** (len(self.results) + 1))
        if not math.isfinite(smoothed):
            run.stop()
            return
        self.results.append((rate, smoothed))
        best = min(one for _, one in self.results)
        threshold = finder.early_stop_threshold
        if threshold is not None and len(self.results) > 1 and smoothed > threshold * best > 0:
            run.stop()
        self._set_rate(run)
