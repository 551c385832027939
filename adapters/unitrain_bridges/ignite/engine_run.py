"""An Ignite engine's run as a generator that pauses at each iteration.

It is ``Engine._internal_run_as_gen`` (0.5.5) once more, with a pause wherever the backend's loop has its turn: the
order of events, of draws and of what is written into the state is the same. What an engine may override (its setup of
the data, its test for the end) is called on it.
"""

from __future__ import annotations

import math
import time
import warnings
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeVar

from unitrain_bridges.ignite.prepare import max_iters_of
from unitrain_ignite._compat import Events, clears_output_first

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from unitrain_ignite._compat import Engine

T = TypeVar("T")


class Pause(Enum):
    """Where a run waits for the loop that drives it.

    Attributes:
        EPOCH: An epoch is to begin.
        FETCH: A batch is to be fetched.
        STEP: A batch is there, and is to be trained on.
        EPOCH_END: No further batch is in the epoch.
        END: The run is over but for COMPLETED.
        INTERRUPTED: ``engine.interrupt()`` was called; a later run continues from here.
    """

    EPOCH = auto()
    FETCH = auto()
    STEP = auto()
    EPOCH_END = auto()
    END = auto()
    INTERRUPTED = auto()


class Terminated(Exception):  # noqa: N818 - no error: the way out of nested loops, as in Ignite
    """Ends the run at a pause."""


class _EpochTerminated(Exception):  # noqa: N818 - as above
    pass


class _Stopped(Exception):  # noqa: N818 - as above
    """Carries a StopIteration of the user's: Ignite has one generator less, so its handlers see it unchanged."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__()
        self.error = error


class EngineRun:
    """One run of an engine.

    Args:
        engine: The engine of the run; its state is prepared.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._counter = 0
        self._interrupted = False
        self._clears_first = clears_output_first()

    @property
    def _state(self) -> Any:
        return self._engine.state  # a handler may put another one in its place

    def run(self) -> Generator[Pause, None, None]:
        """Yield each pause of the run."""
        engine = self._engine
        engine.should_terminate = engine.should_terminate_single_epoch = engine.should_interrupt = False
        engine._init_timers(engine.state)  # noqa: SLF001 - as Ignite, so below
        begun = time.time()
        try:
            try:
                yield from self._epochs()
            except Terminated:
                engine._fire_event(Events.TERMINATE)  # noqa: SLF001
            except _EpochTerminated:
                raise RuntimeError(_NO_EPOCH) from None
            yield Pause.END
            engine.state.times[Events.COMPLETED.name] = taken = time.time() - begun
            if engine.should_terminate != "skip_completed":  # type: ignore[comparison-overlap]
                taken += self._timed(Events.COMPLETED)
                engine.state.times[Events.COMPLETED.name] = taken
            engine.logger.info(f"Engine run finished. Time taken: {_clock(taken)}")  # noqa: G004 - Ignite's own line
        except BaseException as raised:
            if _is_closed(raised) and not self._interrupted:  # the backend failed, and has told it
                raise
            error = _unwrapped(raised)
            engine._dataloader_iter = None  # noqa: SLF001
            engine.logger.error(f"Engine run is terminating due to exception: {error}")  # noqa: G004, TRY400
            engine._handle_exception(error)  # noqa: SLF001
        engine._dataloader_iter = None  # noqa: SLF001

    def _epochs(self) -> Generator[Pause, None, None]:
        engine = self._engine
        _unstopped(engine._fire_event, Events.STARTED)  # noqa: SLF001
        yield from self._heed()
        while not engine._is_done(engine.state) and not engine.should_terminate:  # noqa: SLF001
            yield Pause.EPOCH
            engine.state.epoch += 1
            taken = _unstopped(self._timed, Events.EPOCH_STARTED)
            yield from self._heed()
            if engine._dataloader_iter is None:  # noqa: SLF001
                _unstopped(engine._setup_engine)  # noqa: SLF001
            taken += yield from self._epoch()
            yield Pause.EPOCH_END
            engine.state.times[Events.EPOCH_COMPLETED.name] = taken
            if engine.should_terminate_single_epoch != "skip_epoch_completed":
                taken += _unstopped(self._timed, Events.EPOCH_COMPLETED)
                engine.state.times[Events.EPOCH_COMPLETED.name] = taken
            engine.should_terminate_single_epoch = False  # it is over already
            yield from self._heed()
            engine.logger.info(f"Epoch[{engine.state.epoch}] Complete. Time taken: {_clock(taken)}")  # noqa: G004

    def _epoch(self) -> Generator[Pause, None, float]:
        """Yield the pauses of an epoch, and return the time it took."""
        engine = self._engine
        begun = time.time()
        self._counter = engine._init_iter or 0  # noqa: SLF001 - it continues in the middle of an epoch
        engine._init_iter = None  # noqa: SLF001
        try:
            # in this very function: where a step's StopIteration is still one
            while (yield from self._fetched()):
                yield Pause.STEP
                engine.state.iteration += 1
                engine._fire_event(Events.ITERATION_STARTED)  # noqa: SLF001
                yield from self._heed()
                engine.state.output = engine._process_function(engine, engine.state.batch)  # noqa: SLF001
                engine._fire_event(Events.ITERATION_COMPLETED)  # noqa: SLF001
                yield from self._heed()
                if self._is_complete():
                    break
        except _EpochTerminated:
            engine._fire_event(Events.TERMINATE_SINGLE_EPOCH, iter_counter=self._counter)  # noqa: SLF001
            engine._setup_dataloader_iter()  # noqa: SLF001
        except Terminated:
            raise
        except Exception as raised:  # noqa: BLE001 - as Ignite: a handler of EXCEPTION_RAISED decides
            error = _unwrapped(raised)
            engine.logger.error(f"Current run is terminating due to exception: {error}")  # noqa: G004, TRY400
            engine._handle_exception(error)  # noqa: SLF001
        return time.time() - begun

    def _is_complete(self) -> bool:
        """Return whether the epoch has all its iterations.

        Raises:
            Terminated: If it has not, but the run has.
        """
        state = self._state
        if state.epoch_length is not None and self._counter == state.epoch_length:
            return True
        if max_iters_of(state) is not None and state.iteration == state.max_iters:
            self._engine.should_terminate = True
            raise Terminated
        return False

    def _fetched(self) -> Generator[Pause, None, bool]:
        """Yield the pauses of fetching a batch, and return whether there is one."""
        engine = self._engine
        yield Pause.FETCH
        restarted, clears_first = False, self._clears_first
        while True:
            self._state.batch = None
            if clears_first:
                self._state.output = None
            try:
                if engine.last_event_name != Events.DATALOADER_STOP_ITERATION:  # else it was announced already
                    self._announce(Events.GET_BATCH_STARTED)
                    yield from self._heed(self._state.dataloader is not None)
                self._state.batch = next(engine._dataloader_iter)  # type: ignore[arg-type]  # noqa: SLF001
                self._state.output = None
                self._announce(Events.GET_BATCH_COMPLETED)
                yield from self._heed(self._state.dataloader is not None)
            except StopIteration:
                if self._ends(restarted):
                    return False
            else:
                self._counter += 1
                return True
            _unstopped(self._announce, Events.DATALOADER_STOP_ITERATION)
            yield from self._heed(self._state.dataloader is not None)
            _unstopped(engine._setup_dataloader_iter)  # noqa: SLF001
            restarted = True

    def _ends(self, restarted: bool) -> bool:
        """Return whether the end of the data is that of the epoch."""
        state = self._state
        if state.epoch_length is None:
            state.epoch_length = self._counter
            if max_iters_of(state) is not None:
                state.max_epochs = math.ceil(state.max_iters / state.epoch_length)
            return True
        if restarted and not self._engine._is_done(state):  # noqa: SLF001
            total = max_iters_of(state) if state.max_epochs is None else state.epoch_length * state.max_epochs
            warnings.warn(
                "Data iterator can not provide data anymore but required total number of iterations to run is not"
                f" reached. Current iteration: {state.iteration} vs Total iterations to run : {total}",
                stacklevel=2,
            )
        return restarted

    def _announce(self, event: Events) -> None:
        """Fire a data event; an engine that runs without data has none."""
        if self._state.dataloader is not None:
            self._engine._fire_event(event)  # noqa: SLF001

    def _heed(self, asked: bool = True) -> Generator[Pause, None, None]:
        """Apply a handler's request."""
        engine = self._engine
        if not asked:
            return
        if engine.should_terminate:
            raise Terminated
        if engine.should_terminate_single_epoch:
            raise _EpochTerminated
        if engine.should_interrupt:
            engine._fire_event(Events.INTERRUPT)  # noqa: SLF001
            engine.should_interrupt = False
            self._interrupted = True  # if nobody continues, Ignite ends the run as one that failed
            yield Pause.INTERRUPTED
            self._interrupted = False

    def _timed(self, event: Events) -> float:
        begun = time.time()
        self._engine._fire_event(event)  # noqa: SLF001
        return time.time() - begun


_NO_EPOCH = (
    "The method terminate_epoch() should not be called on Event.STARTED or Event.EPOCH_STARTED."
    "If this is a desired behaviour, please open a feature request on"
    "https://github.com/pytorch/ignite/issues/new/choose"
)


def _unstopped(call: Callable[..., T], *args: Any) -> T:
    """Call a function within a generator; its StopIteration would become the generator's own error.

    Raises:
        _Stopped: In the place of a StopIteration.
    """
    try:
        return call(*args)
    except StopIteration as stop:
        raise _Stopped(stop) from None


def _unwrapped(error: BaseException) -> BaseException:
    return error.error if isinstance(error, _Stopped) else error


def _is_closed(error: BaseException) -> bool:
    """Return whether the run itself was closed at a pause; a GeneratorExit of the user's comes from another module."""
    if not isinstance(error, GeneratorExit):
        return False
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_globals is globals()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{round(hours):02d}:{round(minutes):02d}:{seconds:06.3f}"
