"""Ctrl-C, SIGTERM and errors during a fit, the same on every backend.

A signal only sets a flag, which is read where a run may stop anyway, so that stopping by a signal is bit-identical to
``run.stop()``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from unitrain.callbacks import ModelCheckpoint
from unitrain.checkpoint.owned_files import SIGNAL as SIGNALLED
from unitrain.checkpoint.saving import finished
from unitrain.run.hub import Event
from unitrain.run.saves import CheckpointRequest
from unitrain.run.stopping import HARD, INTERRUPT, MAX_STEPS, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unitrain.backends.protocol import FitJob
    from unitrain.run.context import RunContext
    from unitrain.session.last_good_state import Rescue

_POINTS = Event.FIT_START | Event.BATCH_END | Event.VAL_END | Event.EPOCH_END
_LINE = "unitrain: Ctrl-C: stopping after this batch; press it again to abort.\n"


@contextmanager
def guarded(job: FitJob) -> Iterator[None]:
    """Handle signals and save after errors while ``job`` runs; everything is restored afterwards.

    Raises:
        KeyboardInterrupt: On the second Ctrl-C.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            stack.enter_context(_Signals(job).installed())
        job.hub.keepers[SIGNALLED] = _SigtermCheckpoint(job)
        stack.enter_context(_rescued(job))
        stack.enter_context(finished(job.hub))
        yield


class _Signals:
    """The handlers of one fit.

    Args:
        job: The fit.
    """

    def __init__(self, job: FitJob) -> None:
        self._job = job
        self._hub = job.hub
        self._process = os.getpid()
        self._interrupted = self._terminated = self._asked = False
        self._saves = any(one.saves_at_interrupt for one in _keepers(job))
        ours: dict[int, Any] = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}
        self._before = {number: signal.getsignal(number) for number in ours}
        # what is ignored stays ignored, as in a shell's background job; what is not Python's (None) cannot be put back
        self._handlers = {
            number: handler
            for number, handler in ours.items()
            if self._before[number] is not None and self._before[number] != signal.SIG_IGN
        }

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals; stop and save when possible."""
        # Lightning installs a handler of its own before FIT_START: take the place again
        listeners = [*self._hub.on(Event.FIT_START, self._install), *self._hub.on(_POINTS, self._take_note)]
        try:
            self._install()
            yield
            self._take_note()
            if self._asked and self._hub.files.rescue is not None:
                self._hub.last_checkpoint = (
                    self._hub.files.rescue
                )  # a ModelCheckpoint may have written after it, in the epoch that was cut
        finally:
            self._hub.remove(listeners)
            self._put(self._before)

    def _install(self) -> None:
        self._put(self._before | self._handlers)

    def _put(self, handlers: dict[int, Any]) -> None:
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)

    def _interrupt(self, *_: object) -> None:
        if os.getpid() != self._process:
            return  # a worker of a loader, which the terminal tells too: it serves the running batch
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        with suppress(RuntimeError, OSError, AttributeError):  # in the middle of another line, closed, or none at all
            sys.stderr.write(_LINE)
            sys.stderr.flush()

    def _terminate(self, number: int, _: object) -> None:
        if os.getpid() == self._process:
            self._terminated = True
            return
        signal.signal(number, signal.SIG_DFL)  # a child of the process, made by fork, that somebody wants to end
        os.kill(os.getpid(), number)

    def _take_note(self) -> None:
        """Turn a signal into a request to stop."""
        hub = self._hub
        self._terminated |= self._interrupted and self._saves
        if self._interrupted and hub.stop_reason not in HARD:
            hub.stop_reason = INTERRUPT
        if not self._terminated or self._asked or hub.context is None:
            return
        if hub.stop_reason != MAX_STEPS:
            hub.stop_reason = SIGNAL
        self._asked = True
        hub.pending_checkpoints.append(CheckpointRequest(SIGNALLED, "interrupted.ckpt"))
        if hub.context.at_rest:
            hub.context.write_saves()


def _keepers(job: FitJob) -> list[ModelCheckpoint]:
    return [one for one in job.callbacks.values() if isinstance(one, ModelCheckpoint)]


class _SigtermCheckpoint:
    """Chooses the path of a signal's checkpoint: among the first ModelCheckpoint's files, or in the run's own folder.

    Args:
        job: The fit.
    """

    def __init__(self, job: FitJob) -> None:
        self._job = job
        self._files = job.hub.files

    def take(self, wanted: CheckpointRequest, run: RunContext) -> Path:  # noqa: ARG002 - as keepers have it
        """Return the path; the file of an earlier signal is replaced, if it belongs to this run."""
        kept = sorted(_keepers(self._job), key=lambda one: not one.saves_at_interrupt)
        config, files = self._job.config, self._files
        folder = kept[0].folder(config, files) if kept else files.default_folder(config.default_root_dir)
        files.rescue = files.take(folder / wanted.name, wanted.owner, files.rescue)
        return files.rescue

    def state_dict(self) -> dict[str, Any]:
        """Return the path of the file."""
        return self._files.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of rank 0."""
        self._files.load_state_dict(state)


@contextmanager
def _rescued(job: FitJob) -> Iterator[None]:
    """Write ``exception.ckpt`` for each ModelCheckpoint with ``save_on_exception``, if the fit fails."""
    hub = job.hub
    wanting = [one for one in _keepers(job) if one.save_on_exception]
    if not wanting:
        yield
        return
    from unitrain.session.last_good_state import Rescue  # noqa: PLC0415 - only who asks for it pays for it

    rescue = Rescue(job)
    hub.on_safe_point = rescue.keep
    try:
        yield
    except BaseException as error:
        if hub.occurred(Event.FIT_START):
            _rescue(job, rescue, wanting, error)
        raise
    finally:
        hub.on_safe_point = None
        rescue.close()


def _rescue(job: FitJob, rescue: Rescue, wanting: list[ModelCheckpoint], error: BaseException) -> None:
    """Write the state before the error, once into each folder; a failure adds a note to the error."""
    if not rescue.holds():
        from unitrain.session.last_good_state import warn_of_none  # noqa: PLC0415 - only who asks for it pays for it

        warn_of_none()
        return
    files = job.hub.files
    done: set[Path] = set()
    for callback in wanting:
        path = (callback.target(files) or files.at(job.config.default_root_dir)) / "exception.ckpt"
        try:
            folder = callback.folder(job.config, files)
            if folder in done:
                continue
            done.add(folder)
            path = files.take(folder / path.name, "exception")
            rescue.write(path)
            files.wrote(path, "exception")
            job.hub.last_checkpoint = path
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise
            error.add_note(f"unitrain: {path} could not be written: {second!r}")
        finally:
            files.release()
