"""Clocks that can be trusted a little: everything in one process, interleaved, each beside the loop it is compared with."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import statistics
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import torch

from tests.bench.work import Work, job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from tests.bench.work import Job

    Variant = Callable[[Job], dict[str, float]]

CLOSE = 1e-5
"""How far a metric may be from the bare loop's, relatively: the libraries sum in another order, some in double."""


class Took(NamedTuple):
    """Seconds on the wall and of the processor."""

    wall: float
    cpu: float


@dataclass
class Times:
    """What a variant took, each time paired with the bare loop just before and just after it.

    Attributes:
        took: Each measurement.
        ratios: Its wall time against the mean of its two neighbours'.
        cpu_ratios: The same by processor time.
    """

    took: list[Took] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    cpu_ratios: list[float] = field(default_factory=list)

    def add(self, took: Took, before: Took, after: Took) -> None:
        """Take a measurement and its neighbours."""
        self.took.append(took)
        self.ratios.append(2 * took.wall / (before.wall + after.wall))
        self.cpu_ratios.append(2 * took.cpu / (before.cpu + after.cpu))


class Quartiles(NamedTuple):
    """The middle of some measurements, and where half of them are."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Quartiles:
        """Return those of ``values``."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


def measured(work: Work, bare: Variant, variants: Mapping[str, Variant], rounds: int) -> dict[str, Times]:
    """Run all variants ``rounds`` times, the bare loop between each two, and compare what they reach.

    Raises:
        AssertionError: If a variant does not reach the bare loop's weights and metrics.
    """
    times = {name: Times() for name in variants}
    for _ in range(2):  # first uses import, compile and fill caches
        for variant in (bare, *variants.values()):
            _once(work, variant)
    before, expected = _once(work, bare)
    for _ in range(rounds):
        for name, variant in variants.items():
            took, reached = _once(work, variant)
            after, _ = _once(work, bare)
            require_same(name, reached, expected)
            times[name].add(took, before, after)
            before = after
    return times


Reached = tuple["dict[str, Tensor]", dict[str, float]]


def _once(work: Work, variant: Variant) -> tuple[Took, Reached]:
    with TemporaryDirectory() as folder, quiet():
        made = job(work, Path(folder))
        gc.collect()
        gc.disable()
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            found = variant(made)
            took = Took(time.perf_counter() - wall, time.process_time() - cpu)
        finally:
            gc.enable()
        return took, ({name: value.clone() for name, value in made.model.state_dict().items()}, found)


def require_same(name: str, reached: Reached, expected: Reached) -> None:
    """Refuse a variant that did other work: its time would compare nothing."""
    weights, found = reached
    for key, value in expected[0].items():
        assert torch.equal(weights[key], value), f"{name}: the weights {key} differ"
    for key in found.keys() & expected[1].keys():
        assert abs(found[key] - expected[1][key]) <= CLOSE * abs(expected[1][key]), f"{name}: {key} differs"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Show no progress, logs or advice, but let them be written: they cost what they cost."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        yield
