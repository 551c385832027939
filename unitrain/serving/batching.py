"""Joins requests that arrive in the same turn of the event loop into one run of the model.

Nobody waits for others: requests that were read from their sockets in one turn are run in the next. So one client loses
nothing, and with many clients a run serves all that arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from math import exp
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unitrain.serving.arrays import is_finite
from unitrain.serving.models.loaded import LONG
from unitrain.serving.refusals import FAILED, TOO_SLOW, UNAVAILABLE, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrain.serving.arrays import Array, Rows
    from unitrain.serving.metrics import ModelNumbers
    from unitrain.serving.models.loaded import Loaded

LOG = logging.getLogger("unitrain.serving")

_PROBABILITY: Final = 1e-3
"""How far the sum of a row may be from 1 for its values to be probabilities."""
_CHOICES: Final = 2
_FEW: Final = 1000
_SOON: Final = object()
"""Marks a run that is due in this turn."""


class Answer:
    """The outputs for the rows of one run of the model.

    Args:
        outputs: In the model's order.
        loaded: The model that ran.
    """

    def __init__(self, outputs: list[Array], loaded: Loaded) -> None:
        self.outputs, self.loaded = outputs, loaded

    @cached_property
    def finite(self) -> bool:
        """Whether no output holds NaN or an infinity."""
        return all(one.dtype.kind != "f" or is_finite(one) for one in self.outputs)

    @cached_property
    def confidence(self) -> list[float] | None:
        """The largest probability of each row of the first output that is a choice; None if none is.

        Rows that sum to 1 are probabilities; others are logits, of which the softmax is taken.
        """
        scores = next((one for one in self.outputs if _is_choice(one)), None)
        if scores is None:
            return None
        if scores.ndim == _CHOICES and scores.size <= _FEW:  # NumPy costs ten times as much as these numbers do
            return [_largest_probability(row) for row in scores.tolist()]
        with np.errstate(all="ignore"):  # rows that are not finite are refused; those of others stay
            found = _largest_probabilities(scores.reshape(-1, scores.shape[-1]).astype(np.float64))
        means: list[float] = found.reshape(len(scores), -1).mean(-1).tolist()
        return means


def _largest_probability(scores: list[float]) -> float:
    """Return that of one row."""
    top = max(scores)
    if min(scores) >= 0 and abs(sum(scores) - 1) < _PROBABILITY:
        return top
    return 1 / sum(exp(one - top) for one in scores)


def _largest_probabilities(scores: Array) -> Array:
    """Return those of many rows."""
    top = scores.max(-1)
    softmax = 1 / np.exp(scores - top[:, np.newaxis]).sum(-1)
    are_probabilities = (scores.min(-1) >= 0) & (np.abs(scores.sum(-1) - 1) < _PROBABILITY)
    found: Array = np.where(are_probabilities, top, softmax)
    return found


def _is_choice(output: Array) -> bool:
    return output.dtype.kind == "f" and output.ndim >= _CHOICES and output.shape[-1] >= _CHOICES


class Share:
    """The part of an answer that is of one request.

    Attributes:
        answer: The run.
        start: Its first row.
        rows: The request.
    """

    __slots__ = ("answer", "rows", "start")

    def __init__(self, answer: Answer, start: int, rows: Rows) -> None:
        self.answer, self.start, self.rows = answer, start, rows

    @property
    def outputs(self) -> list[Array]:
        """The outputs, with a batch axis."""
        if not self.answer.loaded.joins:
            return self.answer.outputs
        stop = self.start + self.rows.count
        return [one[self.start : stop] for one in self.answer.outputs]

    @property
    def confidence(self) -> float | None:
        """The mean over the rows; see ``Answer.confidence``."""
        found = self.answer.confidence
        if not found:
            return None
        if not self.answer.loaded.joins:
            return sum(found) / len(found)
        return sum(found[self.start : self.start + self.rows.count]) / self.rows.count


class _Waiting:
    """A request that waits for its run."""

    __slots__ = ("arrived", "future", "key", "rows")

    def __init__(self, rows: Rows, future: asyncio.Future[Share], key: Any) -> None:
        self.rows, self.future, self.key = rows, future, key
        self.arrived = perf_counter()


class Batcher:
    """Runs a model for requests; belongs to one event loop.

    Args:
        current: Returns the model; one run keeps to one.
        max_batch: The most rows of a run.
        max_wait: Seconds to wait for further requests; 0 waits for the turn only.
        queue: How many requests may wait.
        timeout: Seconds after which a waiting request is refused.
        numbers: What is counted.
    """

    def __init__(
        self,
        current: Callable[[], Loaded],
        *,
        max_batch: int,
        max_wait: float,
        queue: int,
        timeout: float,
        numbers: ModelNumbers,
    ) -> None:
        self._current = current
        self._max_batch, self._max_wait, self._queue, self._timeout = max_batch, max_wait, queue, timeout
        self._numbers = numbers
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self._running: list[_Waiting] = []
        self._due: Any = None
        self._found_slow: Loaded | None = None
        self._thread: ThreadPoolExecutor | None = None

    def submit(self, rows: Rows) -> asyncio.Future[Share]:
        """Return what will be the answer.

        Raises:
            Refusal: If too many requests wait.
        """
        if len(self._waiting) >= self._queue:
            self._numbers.rejected()
            raise Refusal(
                UNAVAILABLE, f"overloaded: {self._queue} requests are waiting; retry later.", [(b"retry-after", b"1")]
            )
        loop = asyncio.get_running_loop()
        key = tuple(one.shape[1:] for one in rows.arrays) if self._current().signature.varies else None
        waiting = _Waiting(rows, loop.create_future(), key)
        self._waiting.append(waiting)
        self._numbers.queue_depth(len(self._waiting))
        self._rows += rows.count
        self._schedule(loop, self._max_wait if self._rows < self._max_batch else 0)
        return waiting.future

    def expire(self) -> None:
        """Refuse what has waited too long; call it now and then."""
        before = perf_counter() - self._timeout
        for one in (*self._waiting, *self._running):
            if one.arrived < before and not one.future.done():
                one.future.set_exception(Refusal(TOO_SLOW, f"no answer within {self._timeout:g} s (--timeout)."))

    def close(self) -> None:
        """End the thread, if there is one."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def _schedule(self, loop: asyncio.AbstractEventLoop, wait: float) -> None:
        if self._running or (self._due is not None and (wait or self._due is _SOON)):
            return
        if self._due is not None and self._due is not _SOON:
            self._due.cancel()  # there is a full batch now
        if wait:
            self._due = loop.call_later(wait, self._run, loop)
        else:
            self._due = _SOON
            loop.call_soon(loop.call_soon, self._run, loop)  # after all requests that this turn has read

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = None
        if self._running:
            return
        loaded = self._current()
        group = self._take(joins=loaded.joins)
        if not group:
            return
        work = partial(_execute, loaded, [one.rows for one in group])
        if not loaded.is_slow and self._found_slow is not loaded:
            ran = work()
            if ran.seconds > LONG:
                self._found_slow = loaded  # longer inputs than the example's: other clients must not wait for them
            self._settle(group, ran)
            if self._waiting:
                self._schedule(loop, 0)
            return
        self._running = group
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "unitrain-model")
        done = loop.run_in_executor(self._thread, work)
        done.add_done_callback(partial(self._came_back, loop, group))

    def _came_back(self, loop: asyncio.AbstractEventLoop, group: list[_Waiting], done: asyncio.Future[_Ran]) -> None:
        self._running = []
        if not done.cancelled():
            self._settle(group, done.result())
        if self._waiting:
            self._schedule(loop, 0)

    def _take(self, *, joins: bool) -> list[_Waiting]:
        """Take the oldest requests that can be one run."""
        group: list[_Waiting] = []
        left: list[_Waiting] = []
        count = 0
        for one in self._waiting:
            if one.future.done():
                continue
            fits = not group or (joins and one.key == group[0].key and count + one.rows.count <= self._max_batch)
            (group if fits else left).append(one)
            count += one.rows.count if fits else 0
        self._waiting = left
        self._rows = sum(one.rows.count for one in left)
        self._numbers.queue_depth(len(left))
        return group

    def _settle(self, group: list[_Waiting], ran: _Ran) -> None:
        count = 0
        for one, found in zip(group, ran.shares, strict=True):
            count += one.rows.count
            self._numbers.queued(ran.began - one.arrived)
            if one.future.done():
                continue
            if isinstance(found, Share):
                one.future.set_result(found)
            else:
                one.future.set_exception(found)
        self._numbers.ran(count, ran.seconds)


class _Ran:
    """What came of a run: for each request its share or the error."""

    __slots__ = ("began", "seconds", "shares")

    def __init__(self, began: float, shares: Sequence[Share | Refusal]) -> None:
        self.began, self.shares = began, shares
        self.seconds = perf_counter() - began


def _execute(loaded: Loaded, group: list[Rows]) -> _Ran:
    """Run the model once for all; if it fails, once for each, so that one request cannot fail others."""
    began = perf_counter()
    try:
        return _Ran(began, _shares(loaded, group))
    except Exception:  # noqa: BLE001 - whatever a model raises
        return _Ran(began, [_alone(loaded, one) for one in group])


def _shares(loaded: Loaded, group: list[Rows]) -> list[Share]:
    if len(group) == 1:
        return [Share(Answer(loaded.run(group[0].arrays), loaded), 0, group[0])]
    joined = [np.concatenate(parts) for parts in zip(*(one.arrays for one in group), strict=True)]
    answer = Answer(loaded.run(joined), loaded)
    shares, start = [], 0
    for one in group:
        shares.append(Share(answer, start, one))
        start += one.count
    return shares


def _alone(loaded: Loaded, rows: Rows) -> Share | Refusal:
    try:
        return Share(Answer(loaded.run(rows.arrays), loaded), 0, rows)
    except Exception:
        LOG.exception("the model %s raised an error", loaded.name)
        return Refusal(FAILED, "the model raised an error for this input; the server's log has it.")
