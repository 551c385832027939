"""Collects ``self.log`` values and forwards them to loggers, callbacks and the progress bar."""

from __future__ import annotations

from typing import Any


def logging_of(trainer: Any) -> Any:
    """Return Lightning's own book-keeping of logged values, asked for the step by the bridge's counters.

    It needs no real Trainer, except that it recognizes training by the class of Lightning's loop; here the counters
    answer instead.
    """
    base = trainer.parts.LoggerConnector
    return type("Logging", (base,), {"should_update_logs": property(_should_update_logs)})(trainer)


def _should_update_logs(self: Any) -> bool:
    trainer = self.trainer
    if trainer.log_every_n_steps == 0:
        return False
    loop = trainer._active_loop  # noqa: SLF001 - Lightning's name
    return loop is None or loop.logged_step % trainer.log_every_n_steps == 0 or trainer.should_stop
