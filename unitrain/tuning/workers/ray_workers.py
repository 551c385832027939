"""Workers as tasks of a Ray cluster, which all reach the study's storage."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import BackendNotInstalledError, ConfigError, DistributedError, install_hint
from unitrain.tuning.workers.processes import packed, run_worker, sendable
from unitrain.tuning.workers.worker import terminate

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.tuning.plan import StudyPlan
    from unitrain.tuning.workers.worker import Halt

_GLANCE = 0.2
_PATIENCE = 120.0
"""Seconds that workers have to leave their checkpoints, when all is to stop."""


class RayWorkers:
    """The workers of a study on a Ray cluster. Lambdas and inner functions may be sent.

    Args:
        plan: The study.
        count: Number of workers.
        devices: The GPUs of each trial.

    Raises:
        BackendNotInstalledError: If Ray is not installed.
        ConfigError: If something of the plan cannot be sent, the cluster has too little, or the storage is a file that
            not all of its machines reach.
    """

    def __init__(self, plan: StudyPlan, count: int, devices: int = 0) -> None:
        self._ray = ray = _installed()
        self._plan = plan
        order = self.packed(plan)
        if not ray.is_initialized():
            ray.init()
        _require_cluster(ray, plan, {"CPU": count, "GPU": count * devices})
        self._bell = ray.remote(num_cpus=0)(_Bell).remote()
        self._order = ray.put((order, plan.address.secrets(), str(Path.cwd())))
        self._work = ray.remote(num_cpus=1, num_gpus=devices, max_retries=0, max_calls=1)(_work)
        self._left = plan.retries
        self._tasks = [self._start() for _ in range(count)]

    @staticmethod
    def packed(plan: StudyPlan) -> bytes:
        """Return a plan as it is sent to a worker.

        Raises:
            ConfigError: If something of it cannot be sent.
        """
        return packed(plan, _installed().cloudpickle.dumps)

    def _start(self) -> Any:
        return self._work.remote(self._order, self._bell)

    def run(self, halt: Halt, done: Callable[[], bool], after_each: Callable[[], object]) -> None:
        """Wait for the workers; start one again that was lost, a few times; stop all at a halt or an error.

        Raises:
            DistributedError: If workers keep dying.
            Exception: Any error that a trial raised.
        """
        try:
            while halt.reason is None and self._tasks:
                ready, _ = self._ray.wait(self._tasks, timeout=_GLANCE)
                after_each()
                for task in ready:
                    self._tasks.remove(task)
                    self._look_after(task, done)
        finally:
            self._stop()

    def _look_after(self, task: Any, done: Callable[[], bool]) -> None:
        """Hear what a worker says that has ended, and replace it if it was lost."""
        try:
            error = self._ray.get(task)
        except self._ray.exceptions.RayError as lost:
            if done():
                return
            if self._left == 0:
                raise DistributedError(
                    f"a worker of the study was lost, after {self._plan.retries} others: {lost}",
                    hint="see Ray's log; another call resumes the study.",
                ) from lost
            self._left -= 1
            self._tasks.append(self._start())
        else:
            if error is not None:
                raise error

    def _stop(self) -> None:
        """End the workers; each leaves a checkpoint of its trial."""
        if self._tasks:
            self._ray.get(self._bell.ring.remote())
            _, late = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=_PATIENCE)
            for task in late:
                self._ray.cancel(task, force=True)
        self._ray.kill(self._bell)


class _Bell:
    """An actor that says when all is to stop."""

    def __init__(self) -> None:
        self._rung = False

    def ring(self) -> None:
        self._rung = True

    def rung(self) -> bool:
        return self._rung


def _installed() -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.cloudpickle  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError(
            'tune(executor="ray") needs Ray, which is not installed.', hint=install_hint("ray")
        ) from error
    return ray


def _require_cluster(ray: Any, plan: StudyPlan, asked: dict[str, int]) -> None:
    """Refuse what Ray would wait for without end, and a file that other machines do not have.

    Raises:
        ConfigError: If resources are missing; the message lists the available ones.
    """
    there = ray.cluster_resources()
    for name, number in asked.items():
        if number > there.get(name, 0):
            raise ConfigError(
                f"the workers need {number} {name}, but the Ray cluster has {there.get(name, 0):g}.",
                hint="fewer workers=, or a larger cluster.",
            )
    machines = {one["NodeManagerAddress"] for one in ray.nodes() if one["Alive"]}
    if plan.address.kind in _FILES and len(machines) > 1:
        raise ConfigError(
            f"the Ray cluster has {len(machines)} machines, and storage={str(plan.address)!r} is a file of this one.",
            hint='storage="redis://HOST/0" or storage="postgresql://USER@HOST/DB"',
        )


_FILES = ("journal", "sqlite")


def _work(order: tuple[bytes, dict[str, str], str], bell: Any) -> Exception | None:
    """Be a worker; return what a trial raised."""
    ray = _installed()
    packed, secrets, folder = order
    Path(folder).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ.update(secrets)
    threading.Thread(target=_listen, args=(ray, bell), daemon=True).start()
    try:
        run_worker(ray.cloudpickle.loads(packed))
    except Exception as error:  # noqa: BLE001 - the caller raises it
        return sendable(error)
    return None


def _listen(ray: Any, bell: Any) -> None:
    """Stop in order when the bell rings, or is gone with the caller."""
    rung = False
    while not rung:
        time.sleep(_GLANCE)
        rung = True
        with suppress(Exception):
            rung = ray.get(bell.rung.remote())
    terminate()
