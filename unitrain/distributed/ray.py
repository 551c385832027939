"""Trains on a Ray cluster through Ray Train."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch

from unitrain.distributed.health.failure import Failure, last_words
from unitrain.distributed.launch import job_files
from unitrain.distributed.world import world_here
from unitrain.errors import BackendNotInstalledError, ConfigError, DistributedError, install_hint
from unitrain.session.remote import Elsewhere, work
from unitrain.trainer import UnifiedTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitrain.backends.protocol import Adapter
    from unitrain.config import TrainerOptions
    from unitrain.distributed.launch.job_files import Job

_SAID_OTHERWISE = {"devices": "num_workers", "num_nodes": "num_workers", "accelerator": "use_gpu"}
"""Trainer options that the Ray cluster decides, and the arguments to use instead."""


class RayTrainer(UnifiedTrainer):
    """A ``UnifiedTrainer`` that runs on the workers of a Ray cluster.

    Afterwards the model's weights, results, counters and callbacks of this process are updated from the workers,
    bit-identical to ``UnifiedTrainer(devices=num_workers)``. Lambdas and inner functions can be sent. Each worker works
    in the folder that has the same path as this process's; a checkpoint that was kept on another machine is brought to
    the same path here. Ctrl-C ends the workers at once. An existing cluster is found as ``ray.init()`` finds it;
    without one, Ray starts one on this machine.

    Args:
        framework: As for ``UnifiedTrainer``.
        num_workers: Number of training processes.
        use_gpu: Whether each process has a GPU.
        scaling: Further arguments of ``ray.train.ScalingConfig``, such as ``{"resources_per_worker": {"CPU": 4}}``.
        run_config: A ``ray.train.RunConfig``.
        autoscaling: Whether to wait for machines that the cluster must still start.
        **options: Options of ``UnifiedTrainer``, except ``devices``, ``num_nodes`` and ``accelerator``.

    Raises:
        BackendNotInstalledError: If Ray is not installed.
        ConfigError: If an option is unknown, invalid, or set by the cluster.

    Example:
        ``RayTrainer("ignite", num_workers=2, max_epochs=3).fit(spec, train_loader, val_loader)``
    """

    def __init__(
        self,
        framework: str | Adapter,
        *,
        num_workers: int = 1,
        use_gpu: bool = False,
        scaling: Mapping[str, Any] | None = None,
        run_config: Any = None,
        autoscaling: bool = False,
        **options: Unpack[TrainerOptions],
    ) -> None:
        _installed()
        _refuse(num_workers, scaling, run_config, options)
        options |= {"devices": num_workers, "accelerator": "cuda" if use_gpu else "cpu"}
        super().__init__(framework, **options)
        scale = {**(scaling or {}), "num_workers": num_workers, "use_gpu": use_gpu}
        cluster = _Cluster(scale, run_config, autoscaling, int(self.config.plan.timeout.total_seconds()))
        launch = partial(_on_cluster, cluster)
        self._elsewhere = Elsewhere(num_workers, UnifiedTrainer, self._adapter, self.config, self._hub, launch)


def _installed() -> Any:
    """Return Ray.

    Raises:
        BackendNotInstalledError: If it is not installed.
    """
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.train.torch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError(
            f"RayTrainer needs Ray Train; the package {error.name!r} is not installed.", hint=install_hint("ray")
        ) from error
    return ray


def _refuse(num_workers: Any, scaling: Mapping[str, Any] | None, run_config: Any, options: Mapping[str, Any]) -> None:
    """Refuse what a cluster cannot be asked for in this way."""
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 1:
        raise ConfigError(f"num_workers must be an integer of at least 1; got {num_workers!r}.", hint="num_workers=2")
    for name in _SAID_OTHERWISE.keys() & options.keys():
        raise ConfigError(
            f"RayTrainer({name}={options[name]!r}): Ray decides where its workers run.",
            hint=f"{_SAID_OTHERWISE[name]}=",
        )
    for name in {"num_workers", "use_gpu"} & (scaling or {}).keys():
        raise ConfigError(f"scaling={{{name!r}: ...}} is an argument of RayTrainer itself.", hint=f"{name}=")
    failures = getattr(run_config, "failure_config", None)
    if getattr(failures, "max_failures", 0):
        raise ConfigError(
            f"run_config sets {failures!r}, but a restarted worker would train from the beginning.",
            hint="call fit(ckpt_path=...) with the latest checkpoint of a ModelCheckpoint.",
        )
    world = world_here()
    if world is not None and world.size > 1:
        raise ConfigError(
            f"RayTrainer must run in a single process, but {world.launcher} started {world.size}.",
            hint="start this script with python, or use UnifiedTrainer.",
        )


@dataclass(frozen=True)
class _Cluster:
    """The request to a Ray cluster: ScalingConfig's arguments, RunConfig and the waiting time."""

    scale: dict[str, Any]
    run_config: Any
    autoscaling: bool
    timeout: int

    def config(self) -> Any:
        """Return Ray's ScalingConfig.

        Raises:
            ConfigError: If the cluster has too little for it, which Ray would wait for without end.
        """
        ray = _installed()
        try:
            config = ray.train.ScalingConfig(**self.scale)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"ray.train.ScalingConfig refuses {self.scale!r}: {error}", hint="scaling={}") from error
        there = ray.cluster_resources()
        for name, each in self.resources().items():
            asked = each * self.scale["num_workers"]
            if asked > there.get(name, 0) and not self.autoscaling:
                raise ConfigError(
                    f"num_workers={self.scale['num_workers']} need {asked:g} {name}, but the Ray cluster has"
                    f" {there.get(name, 0):g}.",
                    hint="use fewer workers, a larger cluster, or autoscaling=True to wait for it to grow.",
                )
        return config

    def resources(self) -> dict[str, float]:
        """Return what each worker is given."""
        given = self.scale.get("resources_per_worker")
        return dict(given or ({"CPU": 1} | ({"GPU": 1} if self.scale["use_gpu"] else {})))


class _Box:
    """An actor that holds what the workers send, in the order in which it came."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, bytes]] = []

    def put(self, name: str, data: bytes) -> None:
        self._sent.append((name, data))

    def take(self) -> list[tuple[str, bytes]]:
        return self._sent


@contextmanager
def _on_cluster(cluster: _Cluster, count: int, order: Job) -> Iterator[Path]:
    """Run ``order`` in ``count`` workers, and yield the folder with what they left.

    Raises:
        SpecError: If the order cannot be sent.
        ConfigError: If the cluster has too little for it.
        DistributedError: If a worker failed, with its rank and its traceback; an error of unitrain unchanged.
        KeyboardInterrupt: On Ctrl-C, once the workers have ended.
    """
    ray = _installed()
    if not ray.is_initialized():
        ray.init()
    scaling = cluster.config()
    box = ray.remote(num_cpus=0)(_Box).remote()
    try:
        error = _run(cluster, scaling, {**_errand(cluster, order), "box": box})
        with tempfile.TemporaryDirectory(prefix="unitrain-") as name:
            folder = Path(name)
            _unpack(ray.get(box.take.remote()), folder)
            failure = job_files.first_failure(folder)
            if failure is not None:
                raise failure.raised()
            if error is not None:
                raise DistributedError(
                    f"Ray could not run {count} worker(s): {error}", hint="see Ray's log for details."
                ) from error
            yield folder
    finally:
        ray.kill(box)


def _errand(cluster: _Cluster, order: Job) -> dict[str, Any]:
    """Return each worker's instructions; large objects are stored once per machine."""
    ray = _installed()
    hint = "create objects that cannot be pickled (open files, locks, connections) where they are used."
    threads = max(1, int(cluster.resources().get("CPU", 1)))
    data = job_files.serialize(replace(order, threads=threads), ray.cloudpickle.dumps, hint)
    given = order.arguments.get("ckpt_path")
    checkpoint = Path(given) if given is not None and Path(given).is_file() else None
    return {
        "order": ray.put(data),
        "checkpoint": None if checkpoint is None else ray.put(checkpoint.read_bytes()),
        "folder": str(Path.cwd()),
        "machine": _machine(),
    }


def _run(cluster: _Cluster, scaling: Any, errand: dict[str, Any]) -> Exception | None:
    """Run the workers with Ray Train, and return its error, which only repeats a worker's."""
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415 - an extra

    backend = "cpu:gloo,cuda:nccl" if cluster.scale["use_gpu"] else "gloo"
    with _handlers_put_back():
        try:
            TorchTrainer(
                _worker,
                train_loop_config=errand,
                torch_config=TorchConfig(backend=backend, timeout_s=cluster.timeout),
                scaling_config=scaling,
                run_config=cluster.run_config,
            ).fit()
        except SystemExit as error:  # how Ray answers Ctrl-C; at SIGTERM the code is that signal's number
            if error.code in (0, 1):
                raise KeyboardInterrupt from None
            raise
        except Exception as error:  # noqa: BLE001 - Ray's class for it depends on its release
            return error
    return None


@contextmanager
def _handlers_put_back() -> Iterator[None]:
    """Ray answers Ctrl-C in its own way, and would continue doing so after the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _unpack(sent: list[tuple[str, bytes]], folder: Path) -> None:
    """Write what came into ``folder``, and a file with a whole path where that says; the times tell the order."""
    for index, (name, data) in enumerate(sent):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(data)
        if path.parent == folder:
            os.utime(part, ns=(index, index))
        part.replace(path)


def _machine() -> str:
    """Return what tells machines apart whose files are not the same."""
    return f"{socket.gethostname()} {_installed().get_runtime_context().get_node_id()}"


def _worker(errand: Mapping[str, Any]) -> None:
    """Do what the order says, as one of the workers, and send what came of it."""
    ray = _installed()
    world = world_here()
    assert world is not None  # noqa: S101 - Ray Train has set RANK and WORLD_SIZE

    def send(name: str, data: bytes) -> None:
        ray.get(errand["box"].put.remote(name, data), timeout=_SENDING)

    def say(error: BaseException) -> None:
        with tempfile.TemporaryDirectory() as folder, suppress(Exception):
            job_files.report(Path(folder), Failure.of(world.rank, error))
            for path in Path(folder).iterdir():
                send(path.name, path.read_bytes())

    last_words.append(say)
    with tempfile.TemporaryDirectory(prefix="unitrain-") as folder:
        try:
            value = work(Path(folder), _order(errand, world.hosts, Path(folder)), ray.cloudpickle.dumps)
        except BaseException as error:
            say(error)
            raise
        if world.rank == 0:
            for path in [*map(Path, ("result.pickle", "result.ckpt")), *_kept(value, errand)]:
                if (Path(folder) / path).exists():
                    send(str(path), (Path(folder) / path).read_bytes())


_SENDING = 600
"""Seconds that a worker waits for its message to be received."""


def _order(errand: Mapping[str, Any], hosts: int, folder: Path) -> Job:
    """Return what this worker is to do, after going where the caller is."""
    ray = _installed()
    order: Job = ray.cloudpickle.loads(ray.get(errand["order"]))
    arguments = dict(order.arguments)
    if errand["checkpoint"] is not None:
        arguments["ckpt_path"] = folder / "start.ckpt"
        arguments["ckpt_path"].write_bytes(ray.get(errand["checkpoint"]))
    Path(errand["folder"]).mkdir(parents=True, exist_ok=True)
    os.chdir(errand["folder"])
    torch.set_num_threads(order.threads)
    return replace(order, options={**order.options, "devices": "auto", "num_nodes": hosts}, arguments=arguments)


def _kept(value: Any, errand: Mapping[str, Any]) -> list[Path]:
    """Return the checkpoints that the caller does not have, since it is on another machine."""
    if _machine() == errand["machine"]:
        return []
    paths = {getattr(value, name, None) for name in ("best_checkpoint", "last_checkpoint")}
    return [Path(path).absolute() for path in paths if path is not None]
