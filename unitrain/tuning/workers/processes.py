"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.distributed.launch.job_files import travels
from unitrain.errors import ConfigError, DistributedError, UnitrainError
from unitrain.tuning.leases import leases_of
from unitrain.tuning.workers.worker import Halt, stopping, terminate, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from unitrain.tuning.plan import StudyPlan

_GLANCE = 0.1
_GUARD = 'guard the code of the script with: if __name__ == "__main__":'


@dataclass
class _Worker:
    process: Any
    answers: Connection
    began: bool = False
    error: BaseException | None = None

    def listen(self) -> None:
        """Hear all that it has said: that it began, and what a trial raised."""
        with suppress(EOFError, OSError):
            while self.answers.poll():
                self.error = self.answers.recv() or self.error
                self.began = True

    def was_lost(self) -> bool:
        """Return whether it ended without an error of its own; whoever calls knows whether anything is left to do."""
        return self.process.exitcode is not None and self.error is None


class WorkerProcesses:
    """The workers of a study on this machine.

    Args:
        plan: The study.
        count: Number of workers.
        devices: The GPUs of each trial, for ``CUDA_VISIBLE_DEVICES``; 0 leaves all visible.

    Raises:
        ConfigError: If something of the plan cannot be sent to another process.
    """

    def __init__(self, plan: StudyPlan, count: int, devices: int = 0) -> None:
        self._plan = plan
        self._order = self.packed(plan)
        self._devices = devices
        self._spawn = multiprocessing.get_context("spawn")
        self._left = plan.retries
        self._count = count
        self._workers: list[_Worker] = []

    @staticmethod
    def packed(plan: StudyPlan) -> bytes:
        """Return a plan as it is sent to a worker.

        Raises:
            ConfigError: If something of it cannot be sent.
        """
        order = packed(plan, pickle.dumps)
        _require_importable(order)
        return order

    def _start(self, index: int) -> _Worker:
        ours, theirs = self._spawn.Pipe()
        arguments = (self._order, theirs)
        process = self._spawn.Process(target=_main, args=arguments, name=f"unitrain-worker-{index}")
        with _visible(_share(index, self._devices)):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def run(self, halt: Halt, done: Callable[[], bool], after_each: Callable[[], object]) -> None:
        """Run the workers; start one again that was killed, a few times; stop all at a halt or an error.

        Raises:
            DistributedError: If workers keep dying.
            Exception: Any error that a trial raised.
        """
        try:
            for index in range(self._count):
                self._workers.append(self._start(index))
            while halt.reason is None and self._error() is None and not self._ended():
                time.sleep(_GLANCE)
                after_each()
                for index, worker in enumerate(self._workers):
                    worker.listen()
                    if self._error() is None and worker.was_lost() and not done():
                        self._replace(index, worker)
        finally:
            self._stop()
        error = self._error()
        if error is not None:
            raise error

    def _error(self) -> BaseException | None:
        return next((one.error for one in self._workers if one.error is not None), None)

    def _ended(self) -> bool:
        return not any(one.process.is_alive() for one in self._workers)

    def _replace(self, index: int, worker: _Worker) -> None:
        status = worker.process.exitcode
        if not worker.began and status > 0:
            raise ConfigError("a worker could not start; its error is above.", hint=_GUARD)
        if self._left == 0:
            raise DistributedError(
                f"a worker of the study was killed (exit status {status}), after {self._plan.retries} others.",
                hint="SIGKILL often means that the machine ran out of memory; a call with fewer workers resumes it.",
            )
        self._left -= 1
        self._workers[index] = self._start(index)

    def _stop(self) -> None:
        """End the workers; each leaves a checkpoint of its trial. A second Ctrl-C kills them."""
        for one in self._workers:
            one.listen()
            if one.began:
                with suppress(OSError):  # it has ended
                    one.answers.send(None)
            elif one.process.is_alive():
                one.process.terminate()
        try:
            for one in self._workers:
                one.process.join()
                one.listen()
        except BaseException:
            for one in self._workers:
                one.process.kill()
            raise


def _share(index: int, devices: int) -> str | None:
    """Return the GPUs of a worker, among those that this process sees; None if it may see all."""
    if not devices:
        return None
    given = os.environ.get(_GPUS)
    seen = given.split(",") if given else [str(one) for one in range((index + 1) * devices)]
    return ",".join(seen[index * devices : (index + 1) * devices])


@contextmanager
def _visible(gpus: str | None) -> Iterator[None]:
    """Show only these GPUs to a process that is started, from its first line on."""
    before = os.environ.get(_GPUS)
    if gpus is not None:
        os.environ[_GPUS] = gpus
    try:
        yield
    finally:
        if gpus is not None:
            os.environ.pop(_GPUS)
            if before is not None:
                os.environ[_GPUS] = before


_GPUS = "CUDA_VISIBLE_DEVICES"


def packed(plan: StudyPlan, dumps: Callable[[Any], bytes]) -> bytes:
    """Return a plan as it is sent to a worker.

    Raises:
        ConfigError: If something of it cannot be sent.
    """
    try:
        return dumps(plan)
    except Exception as error:
        names = [name for name, part in vars(plan).items() if not travels(part, dumps)]
        raise ConfigError(
            f"workers are processes, to which these arguments cannot be sent: {', '.join(names)} ({error}).",
            hint="define functions at module level (no lambdas, no inner functions), or use workers=1.",
        ) from error


def _require_importable(order: bytes) -> None:
    """Refuse a script that a worker cannot import, or that would start further workers in it.

    Raises:
        ConfigError: If it is one.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        raise ConfigError("each worker imports this script, which would start further workers.", hint=_GUARD)
    script = getattr(sys.modules["__main__"], "__file__", None)
    if (script is None and b"__main__" in order) or not Path(script or __file__).exists():
        raise ConfigError(
            "workers import the functions of a study, and cannot import from a notebook, a prompt or a pipe.",
            hint="move make_spec and the data to a file, such as search.py, and import them; or use workers=1.",
        )


def _main(order: bytes, answers: Connection) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the first process, which tells us
    threading.Thread(target=_end_when_told, args=(answers,), daemon=True).start()
    answers.send(None)  # the script is imported
    try:
        run_worker(pickle.loads(order))  # noqa: S301 - from the process that started this one
    except Exception as error:  # noqa: BLE001 - the first process raises it
        answers.send(sendable(error))


def run_worker(plan: StudyPlan) -> None:
    """Work on a study that exists, in this process."""
    import optuna  # noqa: PLC0415 - an extra

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    halt, leases = Halt(), leases_of(plan.address, plan.study_name)
    try:
        study = optuna.load_study(study_name=plan.study_name, storage=plan.address.opened())
        with stopping(halt, None):
            work(plan, study, leases, halt, lambda: None)
    finally:
        leases.close()


def _end_when_told(answers: Connection) -> None:
    """Stop in order when the process that started this one says so, or is gone; Windows has no signal for that."""
    parent = multiprocessing.parent_process()
    wait([answers] if parent is None else [answers, parent.sentinel])
    terminate()


def sendable(error: Exception) -> Exception:
    """Return an error that can be sent, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its reason, it cannot be sent
        return UnitrainError(f"a trial failed: {type(error).__name__}: {error}", hint="see the trial's fail_reason.")
    return error
