"""Starts the processes of a run with torch's elastic agent, as ``torchrun`` does, and collects results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from unitrain.distributed.health.failure import Failure, last_words
from unitrain.distributed.launch import job_files
from unitrain.distributed.launch.process_group import wanted
from unitrain.errors import ConfigError, DistributedError, UnitrainError
from unitrain.loop.device import choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from unitrain.config import TrainerConfig
    from unitrain.distributed.launch.job_files import Job
    from unitrain.distributed.world import World

Member = Callable[[str], None]
"""The function that each process runs with the folder of its job; a module-level function."""


def starts(config: TrainerConfig, world: World | None) -> int:
    """Return the number of processes to start; 0 if the run happens in this process.

    Raises:
        ConfigError: If other hosts are required, or more GPUs than there are.
    """
    if world is not None:
        return 0
    count = wanted(config)
    if config.num_nodes > 1:
        raise ConfigError(
            f"num_nodes={config.num_nodes}: processes cannot be started on other hosts.",
            hint=f"on each host: torchrun --nnodes={config.num_nodes} --nproc-per-node={count}"
            " --rdzv-backend=c10d --rdzv-endpoint=FIRST_HOST:29400 script.py",
        )
    if count == 1:
        return 0
    choose_device(config, count - 1)  # refused here rather than in each process
    return count


@contextmanager
def launched(count: int, order: Job, member: Member) -> Iterator[Path]:
    """Run ``order`` in ``count`` new processes, and yield the folder with their results.

    Ctrl-C and SIGTERM are forwarded to them, and stop them like a run in one process.

    Raises:
        SpecError: If the job cannot be sent.
        DistributedError: If a process failed, with its rank and its traceback; an error of unitrain unchanged.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself asks
        _unguarded()
    with tempfile.TemporaryDirectory(prefix="unitrain-") as name:
        folder = Path(name)
        job_files.send(folder, order)
        os.environ[_FOLDER] = name
        try:
            _run(count, folder, member)
        finally:
            del os.environ[_FOLDER]
        yield folder


_FOLDER = "UNITRAIN_FOLDER"
"""Environment variable with the path where processes report start-up errors."""


def _unguarded() -> NoReturn:
    """End a process whose imported script starts further processes; its parent raises the error.

    Raises:
        ConfigError: If another program started it.
    """
    error = ConfigError(
        "each started process imports this script, which would start further processes.",
        hint='guard the code of the script with: if __name__ == "__main__":',
    )
    if _FOLDER in os.environ:
        job_files.report(Path(os.environ[_FOLDER]), Failure.of(0, error))
        raise SystemExit(1)  # silently: the error is shown once, where the script was started
    raise error


def _run(count: int, folder: Path, member: Member) -> None:
    # torch.distributed.elastic takes a third of a second to import
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    wished: dict[str, Any] = {
        "min_nodes": 1,
        "max_nodes": 1,
        "nproc_per_node": count,
        "run_id": uuid.uuid4().hex,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "max_restarts": 0,
        "monitor_interval": 0.1,
        "start_method": "spawn",
        "signals_to_handle": "SIGHUP,SIGQUIT",
    }
    known = {one.name for one in fields(LaunchConfig)}
    config = LaunchConfig(**{name: value for name, value in wished.items() if name in known})
    with _handing_signals_on() as interrupted, _ending_late(folder):
        try:
            elastic_launch(config, member)(str(folder))
        except ChildFailedError as error:
            failure = job_files.first_failure(folder)
            if interrupted and (failure is None or failure.kind == KeyboardInterrupt.__name__):
                raise KeyboardInterrupt from None
            raise _why(failure, error) from None
        finally:
            _end_the_rest(folder)


_LAST_WORDS = 10.0
"""Seconds that processes have to exit themselves after one has reported a failure."""


@contextmanager
def _ending_late(folder: Path) -> Iterator[None]:
    """End processes that do not end after another has failed, such as suspended ones; torch would wait 30 seconds."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_GLANCE):
            if job_files.first_failure(folder) is not None and not over.wait(_LAST_WORDS):
                _end_the_rest(folder)
                return

    thread = threading.Thread(target=watch, name="unitrain-launcher", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


_GLANCE = 0.5
"""Seconds between two checks for failures."""


def _end_the_rest(folder: Path) -> None:
    """End all leftovers of the processes, such as loader workers of a killed one."""
    for group in job_files.pids(folder):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _why(failure: Failure | None, error: Any) -> UnitrainError:
    """Return the error, which says which process failed and how."""
    if failure is None:
        rank, process = error.get_first_failure()
        killed = process.exitcode < 0
        ended = f"was killed ({process.signal_name()})" if killed else f"exited with status {process.exitcode}"
        return DistributedError(
            f"rank {rank} {ended} without an error message; the others were stopped.",
            hint="SIGKILL often means that the host ran out of memory.",
        )
    return failure.raised()


@contextmanager
def _handing_signals_on() -> Iterator[list[int]]:
    """Forward Ctrl-C and SIGTERM to the processes, and yield the list of received interrupts."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    others = multiprocessing.active_children()

    def hand_on(number: int, frame: FrameType | None) -> None:
        ours = [process for process in multiprocessing.active_children() if process not in others]
        if number == signal.SIGINT:
            came.append(number)
        if not ours:  # none has been started yet
            _as_before(before[number], number, frame)
        for process in ours:
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, number if len(came) < _IMPATIENT else signal.SIGKILL)

    found: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in found.items() if handler != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, hand_on)
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_IMPATIENT = 3
"""The Ctrl-C that kills processes that ignore it."""


def _as_before(handler: Any, number: int, frame: FrameType | None) -> None:
    """Do what the signal does by default."""
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def membership(name: str) -> Iterator[tuple[Path, Job]]:
    """Prepare this started process, and report its error.

    Args:
        name: The folder of the job.
    """
    folder, rank = Path(name), int(os.environ["RANK"])
    os.setpgid(0, 0)  # the terminal's Ctrl-C comes once, by way of the process that started this one
    job_files.write_pid(folder, rank)
    last_words.append(lambda error: job_files.report(folder, Failure.of(rank, error)))
    try:
        order = job_files.receive(folder)
        torch.set_num_threads(order.threads)
        yield folder, order
    except BaseException as error:
        job_files.report(folder, Failure.of(rank, error))
        if isinstance(error, KeyboardInterrupt):  # torch would take it for a good end, and wait for the answer
            raise SystemExit(_INTERRUPTED) from error
        raise


_INTERRUPTED = 130
"""The exit status after Ctrl-C, as in shells."""
