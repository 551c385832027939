"""What a service counts. All workers write into one block of shared memory, each into its own row.

So any worker can tell the sums of all without asking, and what a killed worker has counted is not lost: its successor
continues its row. Only the gauges of what is in flight start again at 0.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from unitrain.serving.arrays import Array

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the buckets of a duration."""
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The upper bounds of the buckets of a number of rows."""

STATUSES: Final = (200, 400, 401, 404, 405, 408, 411, 413, 415, 421, 422, 431, 499, 500, 503, 504)
RELOADED, REFUSED, BROKEN = "reloaded", "refused", "broken"
OVERLOADED: Final = "queue_full"


@dataclass(frozen=True)
class Family:
    """One metric with all its labels.

    Attributes:
        name: Without the prefix ``unitrain_``.
        kind: ``"counter"``, ``"gauge"`` or ``"histogram"``.
        help: One line.
        labels: The names of its labels.
        bounds: Of a histogram's buckets.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers one series takes: a histogram has its buckets, one beyond them, and the sum."""
        return len(self.bounds) + 2 if self.bounds else 1


REQUESTS = Family("requests", "counter", "Answered requests.", ("route", "model", "code"))
REQUEST_SECONDS = Family(
    "request_seconds", "histogram", "From the request's headers to the answer.", ("model",), SECONDS
)
QUEUE_SECONDS = Family("queue_seconds", "histogram", "What a request waited for its run.", ("model",), SECONDS)
INFER_SECONDS = Family("infer_seconds", "histogram", "One run of the model.", ("model",), SECONDS)
BATCH_ROWS = Family("batch_rows", "histogram", "Rows of one run of the model.", ("model",), ROWS)
QUEUE_DEPTH = Family("queue_depth", "gauge", "Requests that wait for a run.", ("model",))
IN_FLIGHT = Family("in_flight", "gauge", "Requests that are being answered.")
REJECTED = Family("rejected", "counter", "Requests that were refused for overload.", ("reason",))
RELOADS = Family("reloads", "counter", "Replaced model files.", ("model", "result"))

NO_MODEL: Final = ""


class Layout:
    """Where each series stands in a worker's row; the same in all workers of a service.

    Args:
        models: The names of the served models.
        routes: The templates of the routes.
    """

    def __init__(self, models: Sequence[str], routes: Sequence[str]) -> None:
        self.series: dict[tuple[Family, tuple[str, ...]], int] = {}
        self._end = 0
        for route in routes:
            for model in (NO_MODEL, *models):
                for code in STATUSES:
                    self._add(REQUESTS, route, model, str(code))
        for model in models:
            for family in (REQUEST_SECONDS, QUEUE_SECONDS, INFER_SECONDS, BATCH_ROWS, QUEUE_DEPTH):
                self._add(family, model)
            for result in (RELOADED, REFUSED, BROKEN):
                self._add(RELOADS, model, result)
        self._add(IN_FLIGHT)
        self._add(REJECTED, OVERLOADED)

    def _add(self, family: Family, *labels: str) -> None:
        self.series[family, labels] = self._end
        self._end += family.width

    @property
    def width(self) -> int:
        """How many numbers a worker has."""
        return self._end

    def bytes(self, workers: int) -> int:
        """Return how large the block of all workers is."""
        return 8 * self.width * workers


class Numbers:
    """What one worker counts, and the sums of all.

    Args:
        layout: Where what stands.
        block: The shared memory of ``layout.bytes(workers)`` bytes.
        worker: The row of this worker.
    """

    def __init__(self, layout: Layout, block: Any, worker: int = 0) -> None:
        self.layout, self.started = layout, monotonic()
        every = memoryview(block).cast("B").cast("d")
        self._all = np.frombuffer(memoryview(block).cast("B"), np.float64).reshape(-1, layout.width)
        self._own = every[worker * layout.width : (worker + 1) * layout.width]
        self._codes = {key[1]: at for key, at in layout.series.items() if key[0] is REQUESTS}
        self._in_flight = layout.series[IN_FLIGHT, ()]
        for (family, _), at in layout.series.items():
            if family.kind == "gauge":
                self._own[at] = 0.0

    def began(self) -> None:
        """Count a request that came."""
        self._own[self._in_flight] += 1

    def ended(self, route: str, model: str, status: int) -> None:
        """Count its answer."""
        self._own[self._in_flight] -= 1
        at = self._codes.get((route, model, str(status)))
        if at is not None:
            self._own[at] += 1

    def refused(self, route: str, status: int) -> None:
        """Count a request that was refused before it was whole."""
        self._own[self._codes[route, NO_MODEL, str(status)]] += 1

    def of_model(self, model: str) -> ModelNumbers:
        """Return what is counted for one model."""
        return ModelNumbers(self, model)

    def counter(self, family: Family, *labels: str) -> Callable[[], None]:
        """Return what adds one to a counter."""
        own, at = self._own, self.layout.series[family, labels]

        def add() -> None:
            own[at] += 1

        return add

    def gauge(self, family: Family, *labels: str) -> Callable[[float], None]:
        """Return what sets a gauge."""
        own, at = self._own, self.layout.series[family, labels]

        def put(value: float) -> None:
            own[at] = value

        return put

    def histogram(self, family: Family, *labels: str) -> Callable[[float], None]:
        """Return what observes a value."""
        own, at = self._own, self.layout.series[family, labels]
        bounds, total = family.bounds, at + family.width - 1

        def observe(value: float) -> None:
            own[at + bisect_left(bounds, value)] += 1
            own[total] += value

        return observe

    def totals(self) -> Array:
        """Return the sums over all workers."""
        found: Array = self._all.sum(axis=0)
        return found

    def values(self) -> Iterator[tuple[Family, tuple[str, ...], Array]]:
        """Yield each series with its sums over all workers."""
        totals = self.totals()
        for (family, labels), at in self.layout.series.items():
            yield family, labels, totals[at : at + family.width]


class ModelNumbers:
    """What is counted for one model.

    Args:
        numbers: Of the worker.
        model: Its name.
    """

    def __init__(self, numbers: Numbers, model: str) -> None:
        self.queue_depth = numbers.gauge(QUEUE_DEPTH, model)
        self.queued = numbers.histogram(QUEUE_SECONDS, model)
        self.answered = numbers.histogram(REQUEST_SECONDS, model)
        self.rejected = numbers.counter(REJECTED, OVERLOADED)
        self._infer = numbers.histogram(INFER_SECONDS, model)
        self._rows = numbers.histogram(BATCH_ROWS, model)
        self._reloads = {one: numbers.counter(RELOADS, model, one) for one in (RELOADED, REFUSED, BROKEN)}

    def ran(self, rows: int, seconds: float) -> None:
        """Count a run of the model."""
        self._rows(rows)
        self._infer(seconds)

    def reloaded(self, result: str) -> None:
        """Count a replaced file."""
        self._reloads[result]()


def statistics(numbers: Numbers) -> dict[str, Any]:
    """Return what the page shows: totals, and percentiles as the buckets tell."""
    found: dict[str, float] = dict.fromkeys(("requests", "errors", "queue", "batches", "rows"), 0)
    seconds = np.zeros(REQUEST_SECONDS.width)
    for family, labels, values in numbers.values():
        if family is REQUESTS:
            found["requests"] += int(values[0])
            found["errors"] += 0 if labels[-1] == "200" else int(values[0])
        elif family is QUEUE_DEPTH:
            found["queue"] += int(values[0])
        elif family is BATCH_ROWS:
            found["batches"] += int(values[:-1].sum())
            found["rows"] += int(values[-1])
        elif family is REQUEST_SECONDS:
            seconds += values
    found["uptime_s"] = round(monotonic() - numbers.started, 1)
    return {**found, "latency_ms": {f"p{one}": _percentile(seconds[:-1], one) for one in (50, 95, 99)}}


def _percentile(buckets: Array, percent: int) -> float | None:
    """Return milliseconds, linear within the bucket, as ``histogram_quantile`` of Prometheus does."""
    if not buckets.sum():
        return None
    wanted = buckets.sum() * percent / 100
    ends = np.cumsum(buckets)
    at = int(np.searchsorted(ends, wanted))
    if at >= len(SECONDS):
        return SECONDS[-1] * 1000
    low, before = (SECONDS[at - 1], ends[at - 1]) if at else (0.0, 0.0)
    return round(float(low + (SECONDS[at] - low) * (wanted - before) / buckets[at]) * 1000, 3)


def exposition(numbers: Numbers, models: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the sums as Prometheus reads them.

    Args:
        numbers: Of any worker.
        models: The descriptions of the served models.
    """
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - only where it is scraped
    from prometheus_client.core import (  # noqa: PLC0415 - as above
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )

    made: dict[Family, Any] = {}
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    for family, labels, values in numbers.values():
        if family is REQUESTS and not values[0]:
            continue
        metric = made.setdefault(
            family, kinds[family.kind](f"unitrain_{family.name}", family.help, labels=family.labels)
        )
        if family.kind == "histogram":
            metric.add_metric(labels, _buckets(family, values), float(values[-1]))
        else:
            metric.add_metric(labels, float(values[0]))
    info = InfoMetricFamily("unitrain_model", "The served models.", labels=["model"])
    for one in models:
        info.add_metric([one["name"]], {"sha256": one["sha256"], "format": one["format"]})

    class _Collector:
        def collect(self) -> Iterator[Metric]:
            yield from made.values()
            yield info

    registry = CollectorRegistry()
    registry.register(_Collector())
    found: bytes = generate_latest(registry)
    return found


def _buckets(family: Family, values: Array) -> list[tuple[str, float]]:
    ends = np.cumsum(values[:-1])
    return [
        (str(float(one)) if one != np.inf else "+Inf", float(end))
        for one, end in zip((*family.bounds, np.inf), ends, strict=True)
    ]
