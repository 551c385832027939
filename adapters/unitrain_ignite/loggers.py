"""Wraps loggers of ``ignite.handlers`` as trackers for any backend."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.loggers.figures import file_name
from unitrain.loggers.logger import flat
from unitrain.loggers.mlflow import impatient
from unitrain.loggers.names import MLflowNames
from unitrain.loggers.tensorboard import plain
from unitrain_ignite._compat import (
    BaseLogger,
    Engine,
    Events,
    MLflowLogger,
    ProgressBar,
    TensorboardLogger,
    WandBLogger,
    refuse_mlflow,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

UNTAGGED = "run"
"""The tag of names without a slash, for loggers that require a tag."""


def tracker(given: Any) -> IgniteTracker | None:
    """Wrap one of Ignite's loggers in a tracker; None if ``given`` is not one, or is its progress bar.

    Raises:
        VersionError: If it would fail at the first row.
    """
    if not isinstance(given, BaseLogger) or isinstance(given, ProgressBar):
        return None
    if isinstance(given, MLflowLogger):
        refuse_mlflow()
    for kind, made in _KINDS.items():
        if isinstance(given, kind):
            return made(given)
    return IgniteTracker(given)


class IgniteTracker:
    """Hands each row to one of Ignite's loggers, by the output handler of its own that is attached to an engine.

    No engine runs: a private one for each tag holds the row as its metrics, and is told that an iteration is complete.
    As with Ignite, who made the logger closes it: MLflow's and W&B's run continues until then, or until the process
    ends.

    Attributes:
        logger: Ignite's.

    Args:
        logger: Ignite's.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self._step = 0
        self._engines: dict[str | None, Engine] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand over one row."""
        self._step = step
        for tag, values in self.split(metrics).items():
            engine = self._engine(tag)
            engine.state.metrics = values
            engine.fire_event(Events.ITERATION_COMPLETED)

    def split(self, metrics: Mapping[str, float]) -> dict[str | None, dict[str, float]]:
        """Return the values by tag: a handler joins tag and name by a slash again."""
        found: dict[str | None, dict[str, float]] = {}
        for full, value in metrics.items():
            tag, _, name = full.rpartition("/")
            found.setdefault(tag or UNTAGGED, {})[name] = value
        return found

    def save(self) -> None:
        """Flush the logger, if it supports that."""
        flush = getattr(self.logger, "flush", None)
        if callable(flush):
            flush()

    def _engine(self, tag: str | None) -> Engine:
        if tag not in self._engines:
            self._engines[tag] = engine = Engine(lambda *_: None)
            self.logger.attach_output_handler(
                engine,
                Events.ITERATION_COMPLETED,
                tag=tag,
                metric_names="all",
                global_step_transform=lambda *_: self._step,
            )
        return self._engines[tag]


class TensorboardTracker(IgniteTracker):
    """The writer of TensorBoard, or of tensorboardX, takes names without a tag."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand over one row."""
        super().log_metrics({name: value for name, value in metrics.items() if "/" in name}, step)
        for name, value in metrics.items():
            if "/" not in name:
                self.logger.writer.add_scalar(name, value, step)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Hand over the hyper-parameters."""
        writer = self.logger.writer
        summary = import_module(f"{type(writer).__module__.rpartition('.')[0]}.summary")
        for one in summary.hparams(plain(params), {}):
            writer.file_writer.add_summary(one)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Hand over a figure."""
        self.logger.writer.add_figure(name, figure, step, close=False)


class MLflowTracker(IgniteTracker):
    """MLflow's handler joins tag and name by a space, but needs no tag.

    Each request is tried once, as by unitrain's own: the row is kept and sent again.
    """

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self._names = MLflowNames()

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand over one row."""
        with impatient():
            super().log_metrics(metrics, step)

    def split(self, metrics: Mapping[str, float]) -> dict[str | None, dict[str, float]]:
        """Return the row under names that MLflow takes."""
        return {None: {self._names(name): value for name, value in metrics.items()}}

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Hand over the hyper-parameters."""
        with impatient():
            self.logger.log_params({self._names(name): str(value) for name, value in flat(params)})

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Hand over a figure."""
        with impatient():
            self.logger.log_figure(figure, file_name(name, step))


class WandBTracker(IgniteTracker):
    """W&B takes names without a tag."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand over one row."""
        super().log_metrics({name: value for name, value in metrics.items() if "/" in name}, step)
        self.logger.log({name: value for name, value in metrics.items() if "/" not in name}, step=step)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Hand over the hyper-parameters."""
        self.logger.config.update(dict(params), allow_val_change=True)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Hand over a figure."""
        self.logger.log({name: self.logger.Image(figure)}, step=step)


_KINDS: dict[type[Any], type[IgniteTracker]] = {
    TensorboardLogger: TensorboardTracker,
    MLflowLogger: MLflowTracker,
    WandBLogger: WandBTracker,
}
