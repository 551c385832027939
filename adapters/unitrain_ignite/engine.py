"""The Engine that runs a spec: Ignite's own, which spends nothing on what nobody listens to.

Of an iteration that costs Ignite 10 microseconds, half go into the log lines of four events, which are formatted
whether or not they are shown, and into a generator that is made after each of them so that the run may pause there.
"""

from __future__ import annotations

from logging import DEBUG
from types import MethodType
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError
from unitrain_ignite._compat import Engine

if TYPE_CHECKING:
    from collections.abc import Callable


def lean_engine(process: Callable[[Engine, Any], Any]) -> Engine:
    """Return an engine that skips events without a handler, and refuses to pause.

    It is no subclass, so that ``trainer.native`` is what Ignite's users know.

    Args:
        process: Its process function.
    """
    engine = Engine(process)
    engine.interrupt_resume_enabled = False
    engine.interrupt = _refuse_pause  # type: ignore[method-assign]
    # private: where a release of Ignite's has another name for it, it is as slow as before
    engine._fire_event = MethodType(_fire_if_heard, engine)  # type: ignore[method-assign] # noqa: SLF001
    return engine


def _fire_if_heard(engine: Engine, event: Any, *arguments: Any, **named: Any) -> None:
    if engine._event_handlers.get(event) or engine.logger.isEnabledFor(DEBUG):  # noqa: SLF001 - there is no public way
        Engine._fire_event(engine, event, *arguments, **named)  # noqa: SLF001
    else:
        engine.last_event_name = event


def _refuse_pause() -> None:
    """Refuse: a fit that paused would look like one that has ended.

    Raises:
        UnsupportedFeatureError: Always, with the way out.
    """
    raise UnsupportedFeatureError(
        "engine.interrupt() pauses an engine for a later run(); a fit of unitrain is one run.",
        hint="engine.terminate() ends the fit after the batch; fit(..., ckpt_path=) goes on from a checkpoint.",
    )
