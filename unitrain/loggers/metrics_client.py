"""Pushes the loss, the accuracy and the learning rate of each batch to a monitoring client."""

from __future__ import annotations

import inspect
from typing import Any

from unitrain.errors import ConfigError
from unitrain.loggers.client_thread import ClientThread
from unitrain.utilities.signature import Shown

LOSS, ACCURACY, RATE = "batch_loss", "batch_accuracy", "learning_rate"

_PROTOCOL = frozenset(("begin", "run_state", "load_run_state", "save", "begin_group", "end_trial", "end_group"))
"""What a logger may have beside ``log_metrics``; it is handed on."""


class MetricsClient(Shown):
    """Pushes ``{"batch_loss", "batch_accuracy", "learning_rate"}`` after each batch, or each n-th.

    The dicts are equal on every backend, also for a LightningModule and an Ignite engine. A thread calls
    ``push_metrics``, so a slow client does not slow down training, and a failing one does not stop it: dicts wait, in
    order, and the end of the run waits for them. A logger as target gets the same values as rows, in the loop.

    - ``batch_loss``: the loss of the batch on rank 0, not divided under accumulation.
    - ``batch_accuracy``: of the batch alone, by the first of the spec's metrics that is an accuracy by its name
      (``acc``, ``accuracy``, ``top1_acc``) or class; else a value of such a name that the step has logged or returned.
      Without either, the key is left out.
    - ``learning_rate``: the rate that the batch was trained with, of the first group of the first optimizer.

    The values are read from the device only when a push is due. A bare object with ``push_metrics`` in
    ``loggers=[...]`` is the same as ``MetricsClient(object)``.

    An accuracy costs one update of the metric per push; ``every`` limits that. Of a LightningModule and an Ignite
    engine, the loss and the accuracy are those that the step returned (a number, a mapping, or a sequence that begins
    with the loss) or, in Lightning, logged.

    Args:
        target: An object with ``push_metrics(dict)``, or a logger.
        every: Number of batches between two pushes, independent of ``log_every_n_steps``.

    Raises:
        ConfigError: If the target is neither, its ``push_metrics`` is async, or ``every`` is not a positive whole
            number.

    Example:
        >>> class Client:
        ...     def push_metrics(self, metrics):
        ...         print(sorted(metrics))
        >>> tracker = MetricsClient(Client(), every=3)
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, loggers=[tracker], enable_progress_bar=False)
        >>> _ = trainer.fit(spec, batches)
        ['batch_loss', 'learning_rate']
    """

    def __init__(self, target: Any, every: int = 1) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(f"every must be a positive number of batches; got {every!r}.", hint="every=10")
        self.target, self.every = target, every
        if inspect.iscoroutinefunction(getattr(target, "push_metrics", None)):
            raise ConfigError(
                f"MetricsClient calls push_metrics(dict) in a thread, without an event loop; that of"
                f" {type(target).__name__} is async.",
                hint="def push_metrics(self, metrics): asyncio.run(self.push(metrics))",
            )
        self.never_fails = is_client(target)
        """Whether ``log_batch`` only stores the values: a thread handles what the target raises."""
        self._sink: Any
        if self.never_fails:
            self._sink = ClientThread(target)
        elif not isinstance(target, type) and callable(getattr(target, "log_metrics", None)):
            self._sink = _LoggerRows(target)
        else:
            raise ConfigError(
                f"MetricsClient takes an object with push_metrics(dict), or a logger; got {target!r}.",
                hint="MetricsClient(MyClient()), or MetricsClient(PrometheusLogger(port=9100))",
            )

    def log_batch(self, values: dict[str, float], step: int) -> None:
        """Push the values of one batch."""
        self._sink.push(values, step)

    def finalize(self, status: str) -> None:
        """Wait for the values that are still to be pushed."""
        self._sink.finalize(status)

    def __getattr__(self, name: str) -> Any:
        """Return a logger's own method of the tracker protocol."""
        if name in _PROTOCOL:
            return getattr(self._sink, name)
        if name == "for_trial":
            made = self._sink.for_trial
            return lambda *arguments: MetricsClient(made(*arguments), self.every)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class _LoggerRows:
    """A logger that gets the values as rows."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def push(self, values: dict[str, float], step: int) -> None:
        self._logger.log_metrics(dict(values), step)

    def finalize(self, status: str) -> None:
        if hasattr(self._logger, "finalize"):
            self._logger.finalize(status)

    def __getattr__(self, name: str) -> Any:
        if name == "_logger":  # while it is being copied
            raise AttributeError(name)
        return getattr(self._logger, name)


def is_client(given: Any) -> bool:
    """Return whether an object takes dicts, and is no logger."""
    return (
        not isinstance(given, type)
        and callable(getattr(given, "push_metrics", None))
        and not callable(getattr(given, "log_metrics", None))
    )
