"""Collects ``self.log`` values and forwards them to loggers, callbacks and the progress bar."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from unitrain_bridges.lightning.repeated_log import RepeatedLog

_KINDS = {"_progress_bar_metrics": "pbar", "_callback_metrics": "callback", "_logged_metrics": "log"}
"""Where Lightning keeps what was logged, and what its results call the same."""

_OURS = 2
"""References to one of these dicts that nobody else keeps: the attribute's, and that of the call that counts."""


def logging_of(trainer: Any) -> Any:
    """Return Lightning's own connector for logged values, with the step from the bridge's counters.

    It needs no real Trainer, except that it recognizes training by the class of Lightning's loop; here the counters
    answer instead.
    """
    return trainer.parts.made(SelfLog)(trainer)


def _kept(name: str) -> Any:
    """Return a property with the values of one kind, those of the last batches included."""

    def get(self: SelfLog) -> Any:
        if self._behind:
            self._catch_up()
        return vars(self)[name]

    def put(self: SelfLog, values: Any) -> None:
        self._behind = False  # Lightning replaces all kinds at once
        self.__dict__[name] = values

    return property(get, put)


class SelfLog(OnLightning):
    """Overrides of Lightning's ``_LoggerConnector``.

    Lightning copies the values of each training batch to the callbacks', the loggers' and the progress bar's. Here that
    is done when somebody looks, or before the values are reset at the end of the epoch.

    Attributes:
        repeated: The replacement of the module's ``log`` in training; None where Lightning's own is used.
    """

    stands_on = "LoggerConnector"
    trainer: Any
    repeated: RepeatedLog | None = None
    _behind = False
    _first_loop_iter: bool | None
    _progress_bar_metrics = _kept("_progress_bar_metrics")
    _callback_metrics = _kept("_callback_metrics")
    _logged_metrics = _kept("_logged_metrics")

    @property
    def should_update_logs(self) -> bool:
        """Whether loggers get a row of this step."""
        trainer = self.trainer
        if trainer.log_every_n_steps == 0:
            return False
        loop = trainer._active_loop
        return loop is None or loop.logged_step % trainer.log_every_n_steps == 0 or trainer.should_stop

    def batch_start(self, results: Any, batch: Any) -> None:
        """Do what ``on_batch_start`` does, for a batch of training."""
        self._first_loop_iter = self._first_loop_iter is None
        results.batch, results.batch_size, results.dataloader_idx = batch, None, None

    def batch_end(self, results: Any) -> None:
        """Do what ``on_batch_end`` does, for a batch of training; later, if all its values were logged as before."""
        if self.repeated is None or self.repeated.took_long_way() or self._watched():
            self.on_batch_end()
            return
        self._behind = True
        results.batch = results.batch_size = None

    def _watched(self) -> bool:
        """Return whether user code holds the dict of ``callback_metrics``, which Lightning changes in place."""
        return max(map(sys.getrefcount, map(vars(self).__getitem__, _KINDS))) > _OURS

    def _catch_up(self) -> None:
        self._behind = False
        found = self.trainer.fit_loop.epoch_loop._results.metrics(True)
        for name, kind in _KINDS.items():
            vars(self)[name].update(found[kind])

    def epoch_end_reached(self) -> None:
        """Take over the last batch's values before the epoch's are computed."""
        if self._behind:
            self._catch_up()
        super().epoch_end_reached()
