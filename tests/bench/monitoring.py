"""What a tracker of a monitoring server costs the loop, with a server that answers, is dead or hangs."""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from tests.bench.tuning import row
from tests.bench.work import WORK, job
from tests.monitoring_servers import answering, hanging
from tests.servers import free_port
from unitrain import (
    Event,
    MetricsClient,
    OTLPLogger,
    PrometheusLogger,
    StatsDLogger,
    TrainSpec,
    UnifiedTrainer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.tuning import Row
    from unitrain.run.context import RunContext

CALLS = 5_000
EPOCHS = 120
"""Of a run with a dead or hanging server: three seconds, since the thread delivers each second."""

LIMIT, DELIVERY, RATIO, END = 5.0, 5.0, 1.02, 2.5
"""Microseconds a batch, milliseconds a delivery, the time against that without a tracker, and seconds at the end."""


class Client:
    """A monitoring client that takes everything."""

    def push_metrics(self, metrics: dict[str, float]) -> None:
        """Take it."""


TRACKERS: dict[str, Callable[[str], Any]] = {
    "PrometheusLogger, port": lambda _: PrometheusLogger(port=0),
    "PrometheusLogger, Pushgateway": lambda address: PrometheusLogger(pushgateway=f"http://{address}"),
    "StatsDLogger": StatsDLogger,
    "OTLPLogger": lambda address: OTLPLogger(f"http://{address}"),
    "MetricsClient, each batch": lambda _: MetricsClient(Client()),
}


PUSHING = ("PrometheusLogger, Pushgateway", "StatsDLogger", "OTLPLogger")


def trainer(loggers: list[Any], **options: Any) -> UnifiedTrainer:
    """Return a trainer with the default cadence of rows."""
    return UnifiedTrainer("ignite", enable_progress_bar=False, loggers=loggers, seed=0, **options)


def fit(made: UnifiedTrainer) -> None:
    """Train W1."""
    work = job(WORK["W1"], Path())
    sgd = partial(torch.optim.SGD, lr=0.05)
    made.fit(TrainSpec(model=work.model, loss=torch.nn.CrossEntropyLoss(), optimizer=sgd), work.train)


def microseconds_a_batch(loggers: list[Any]) -> float:
    """Return what the handlers of a batch take of this thread's time, in a real run of W1: the least of several rounds."""
    found = []

    def measure(run: RunContext) -> None:
        handlers = [one.call for event in (Event.BATCH_START, Event.BATCH_END) for one in run.hub._listeners[event]]
        for _ in range(20):
            began = time.thread_time()
            for _ in range(CALLS):
                run.state.batch += 1
                run.state.step += 1
                for call in handlers:
                    call(run)
            found.append(1e6 * (time.thread_time() - began) / CALLS)

    made = trainer(loggers, max_epochs=1)
    made.on(Event.FIT_END, measure)
    fit(made)
    return min(found)


def milliseconds_a_delivery(tracker: Any) -> float:
    """Return the processor time of one delivery of ten values, of which the thread makes one a second."""
    values, found = {f"train/{number}": 1.0 for number in range(10)}, []
    tracker.log_metrics(values, 1)
    for _ in range(40):
        began = time.thread_time()
        with suppress(OSError):
            tracker.deliver(tracker.report())
        found.append(1e3 * (time.thread_time() - began))
    tracker.finalize("success")
    return median(found)


def seconds(loggers: list[Any]) -> tuple[float, float]:
    """Return how long the loop takes, and the end of the run after it."""
    moments = []
    made = trainer(loggers, max_epochs=EPOCHS)
    for event in (Event.FIT_START, Event.FIT_END):
        made.on(event, lambda: moments.append(time.perf_counter()))
    fit(made)
    moments.append(time.perf_counter())
    began, ended, over = moments
    return ended - began, over - ended


def with_faults(kind: str, address: str, rounds: int) -> tuple[float, float]:
    """Return the time of the loop against that without a tracker, and the longest end in seconds."""
    ratios, ends = [], []
    for number in range(rounds):
        order = ([], [TRACKERS[kind](address)])
        # each goes first as often as the other, so that a machine that slows down favours none
        took = {bool(loggers): seconds(loggers) for loggers in (order if number % 2 else reversed(order))}
        ratios.append(took[True][0] / took[False][0])
        ends.append(took[True][1])
    return median(ratios), max(ends)


def compared(rounds: int) -> Iterator[Row]:
    """Yield what was reached, and the goals."""
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = stack.enter_context(answering(200))
        base = microseconds_a_batch([])
        for kind, make in TRACKERS.items():
            yield row("microseconds a batch", kind, microseconds_a_batch([make(answers)]) - base, LIMIT)
        for kind in PUSHING:
            yield row("milliseconds a delivery", kind, milliseconds_a_delivery(TRACKERS[kind](answers)), DELIVERY)
        dead, hangs = f"127.0.0.1:{free_port()}", stack.enter_context(hanging())
        for kind in PUSHING:
            for state, address in (("dead", dead), ("hanging", hangs)):
                ratio, end = with_faults(kind, address, 2 * max(1, round(rounds / 4)))
                yield row(f"server {state}", kind, ratio, RATIO)
                yield row(f"end of the run, server {state}, s", kind, end, END)
