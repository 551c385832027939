"""Sends the values of an Ignite engine's iterations to trackers that take them, on Ignite and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.loggers.batch_accuracy import accuracy_in
from unitrain.loggers.batches import first_rate
from unitrain.loggers.metrics_client import ACCURACY, LOSS, RATE
from unitrain.loggers.outlet import Outlet
from unitrain.loggers.preparation import prepare
from unitrain.metrics.metric import as_float32, is_number
from unitrain_ignite._compat import Events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from unitrain_ignite._compat import Engine


@contextmanager
def batches_sent(engine: Engine, loggers: Sequence[Any], optimizers: Iterable[Any]) -> Iterator[None]:
    """Send the values of each due iteration while the engine runs.

    Args:
        engine: The engine that trains.
        loggers: Trackers of batches.
        optimizers: Those of the program; the first one's rate is sent.
    """
    if not loggers:
        yield
        return
    sent = _Iterations(loggers, list(optimizers))
    status = "failed"
    sent.prepare(engine)
    try:
        sent.open()
        with ExitStack() as stack:
            stack.enter_context(engine.add_event_handler(Events.ITERATION_STARTED, sent.started))
            stack.enter_context(engine.add_event_handler(Events.ITERATION_COMPLETED, sent.completed))
            yield
        status = "success"
    finally:
        sent.close(status)


class _Iterations:
    def __init__(self, clients: Sequence[Any], optimizers: list[Any]) -> None:
        self._clients = [(one, Outlet(one)) for one in clients]
        self._optimizers = optimizers
        self._rate: float | None = None

    def prepare(self, engine: Engine) -> None:
        """Let trackers refuse the run, and follow the engine."""
        state = engine.state
        prepare((one for one, _ in self._clients), lambda: (state.iteration, max(state.epoch - 1, 0)))

    def open(self) -> None:
        """Begin a run."""
        for _, outlet in self._clients:
            outlet.open()
            outlet.begin(0, None)

    def close(self, status: str) -> None:
        """End the run."""
        for _, outlet in self._clients:
            outlet.close(status)

    def started(self, engine: Engine) -> None:
        """Remember the learning rate: handlers of the iteration's end change it."""
        if any(engine.state.iteration % client.every == 0 for client, _ in self._clients):
            self._rate = first_rate(self._optimizers)

    def completed(self, engine: Engine) -> None:
        """Send the values, if they are due."""
        step, values = engine.state.iteration, None
        for client, outlet in self._clients:
            if step % client.every == 0:
                values = values or self._values(engine.state.output)
                outlet.send("log_batch", values, step)

    def _values(self, output: Any) -> dict[str, float]:
        returned = _named(output)
        loss: Any = returned.get("loss")
        found = {
            LOSS: as_float32(loss) if is_number(loss) else None,
            ACCURACY: accuracy_in(returned),
            RATE: self._rate,
        }
        return {name: value for name, value in found.items() if value is not None}


def _named(output: Any) -> Mapping[str, Any]:
    """Return what a step returned by names: a mapping, or the loss, alone or first in a sequence."""
    if isinstance(output, Mapping):
        return output
    if isinstance(output, (tuple, list)):
        return {"loss": output[0]} if output else {}
    return {"loss": output}
