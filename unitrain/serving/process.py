"""A process of a service that another one has started: ``python -m unitrain.serving.process``.

It reads its plan from standard input, and says on standard output, as one line of JSON, that it is ready or why it is
not. Standard input stays open as long as the starter lives: where it ends, the process ends too.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import UnitrainError
from unitrain.serving.loading import leave
from unitrain.serving.logs import configure
from unitrain.serving.plan import Plan
from unitrain.serving.server import Others, listener_of, make_app, run, url_of
from unitrain.serving.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED: Final = 1


def serve_plan(plan: Plan, say: Any) -> None:
    """Serve until a signal comes, in this process or by several workers.

    Args:
        plan: What to serve.
        say: Is called with the address and the models' descriptions by name once the service is ready.

    Raises:
        UnitrainError: If it cannot start.
    """
    if plan.config.workers > 1 and plan.block is None:
        Workers(plan).run(say)
        return
    listener = listener_of(plan)
    url = url_of(plan.config, listener)
    with listener:
        block = None if plan.block is None else mmap.mmap(plan.block, 0)
        app = make_app(plan.models, plan.config, block, plan.worker)
        run(app, listener, lambda: say(url, app.described()), Others(plan.expected, plan.loads_first))


def _end_with(starter: Any) -> None:
    """Drain and end when the starter is gone."""
    starter.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _messages() -> Callable[..., None]:
    """Return what tells the starter something; what else is printed goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**told: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(told) + "\n")
            pipe.flush()

    return say


def main() -> int:
    """Run the plan on standard input, and return the exit status."""
    say = _messages()
    plan = Plan.of_text(sys.stdin.readline())
    configure(plan.config.log_format)
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True, name="unitrain-starter").start()
    try:
        serve_plan(plan, lambda url, models: say(url=url, models=models))
    except UnitrainError as error:
        text = str(error).partition("\nHint: ")
        say(error=text[0], hint=text[2] or None)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(leave(main()))
