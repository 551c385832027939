"""Joins the process group, once per process, and explains failures."""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from unitrain.distributed.collectives import SINGLE_PROCESS, ProcessGroup
from unitrain.distributed.health.failure import end_process
from unitrain.distributed.health.sigterm import mind_sigterm
from unitrain.distributed.health.watchdog import Watchdog
from unitrain.distributed.world import world_here
from unitrain.errors import ConfigError, DistributedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from unitrain.config import TrainerConfig
    from unitrain.distributed.collectives import Collectives
    from unitrain.distributed.options import Strategy
    from unitrain.distributed.world import World

_BACKENDS = {"cuda": "cpu:gloo,cuda:nccl"}
"""gloo for CPU tensors (reports, counters and decisions), nccl for GPU tensors."""


def world_of(config: TrainerConfig) -> World | None:
    """Return the position of this process among the requested ones, or None for a run in one process.

    Raises:
        ConfigError: If the environment has another number of processes than the config.
    """
    world = world_here()
    if world is None or (world.size == 1 and wanted(config) == 1):
        return None
    here = config.devices if isinstance(config.devices, int) and config.devices > 0 else world.local_size
    asked = (len(config.devices) if isinstance(config.devices, list) else here, config.num_nodes)
    if asked != (world.local_size, world.hosts):
        raise ConfigError(
            f"devices={config.devices!r}, num_nodes={config.num_nodes} ask for {asked[0] * asked[1]} processes on"
            f" {asked[1]} host(s); {world.launcher} started {world.size} on {world.hosts}.",
            hint=f'devices={world.local_size} (or "auto"), num_nodes={world.hosts}.',
        )
    return world


def wanted(config: TrainerConfig) -> int:
    """Return the number of processes on this host; ``"auto"`` and -1 mean all GPUs, or one process on the CPU."""
    if isinstance(config.devices, list):
        return len(config.devices)
    if isinstance(config.devices, int) and config.devices > 0:
        return config.devices
    cuda = torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")
    return max(1, torch.cuda.device_count()) if cuda else 1


class _Joined:
    """The process group that this process joined; at most one."""

    watch: Watchdog | None = None
    limits: tuple[timedelta, timedelta] | None = None


_joined = _Joined()


@contextmanager
def team(world: World | None, device: torch.device, strategy: Strategy) -> Iterator[Collectives]:
    """Yield the team of a run; an error that only reports lost processes is replaced with one that says why.

    Args:
        world: The position of this process; None for a run in one process.
        device: The device of its tensors.
        strategy: The strategy, with its time limits.

    Raises:
        ConfigError: If an earlier run of this process had other time limits.
        DistributedError: If the rendezvous fails, or another process failed.
    """
    if world is None:
        yield SINGLE_PROCESS
        return
    watch = _join(world, device, strategy)
    mind_sigterm(watch)
    with watch.one_run():
        try:
            yield ProcessGroup(world, watch)
        except BaseException as error:
            known = watch.failed(error)
            if known is not error:
                raise known from error
            raise


def _join(world: World, device: torch.device, strategy: Strategy) -> Watchdog:
    """Create the process group, unless it exists; it stays until the process ends."""
    limits = strategy.timeout, strategy.watchdog
    if _joined.limits not in (None, limits):
        raise ConfigError(
            f"the process group already exists with (timeout, watchdog) {_joined.limits}; got {limits}.",
            hint="pass all trainers of a script the same DDP(timeout=..., watchdog=...).",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        os.environ.setdefault("MASTER_ADDR", world.address)
        os.environ.setdefault("MASTER_PORT", str(world.port))
        try:
            with _meeting(world, strategy):
                _meet(world, _BACKENDS.get(device.type, "gloo"), strategy.timeout)
        except (RuntimeError, ValueError) as error:
            raise DistributedError(
                f"rank {world.rank} of {world.size} could not join the process group at"
                f" {world.address}:{world.port}: {error}",
                hint="is the port free and the host reachable? MASTER_ADDR and MASTER_PORT set the address.",
            ) from error
    if _joined.watch is None:
        _joined.watch, _joined.limits = _watch(world, strategy), limits
        atexit.register(_leave)
        if sys.version_info < _FORKS_WELL:
            os.register_at_fork(before=_settle)
    return _joined.watch


_GROUPS = "unitrain/groups"
"""The store key that counts the process groups."""


def _meet(world: World, backend: str, timeout: timedelta) -> None:
    """Create the process group, with a store prefix that no earlier group has used.

    torchrun keeps its store when it restarts a group: the first process would find the addresses of dead ones. A group
    that failed during the rendezvous is not counted: its addresses remain for the next one.
    """
    store, rank, size = next(rendezvous("env://", world.rank, world.size, timeout=timeout))
    store.set_timeout(timeout)
    part: Any = dist.PrefixStore(f"{_GROUPS}/{store.add(_GROUPS, 0)}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=part, rank=rank, world_size=size, timeout=timeout)
    if part.add("met", 1) == size:  # so all have read the count
        store.add(_GROUPS, 1)


_FORKS_WELL = (3, 12)
"""The first Python release where ``os.fork`` waits for the thread-list lock; before, a child may inherit it locked and
hang, and a loader waits for such a worker until DDP's timeout."""

_SETTLING = 0.01
"""Seconds."""


def _settle() -> None:
    """Wait for torch's threads to release the tensors of a finished collective.

    For that they take the GIL and register as threads, which must not coincide with a fork or Python's exit.
    """
    time.sleep(_SETTLING)


_MARGIN = 10.0
"""Seconds of grace for torch's own timeout."""


@contextmanager
def _meeting(world: World, strategy: Strategy) -> Iterator[None]:
    """End this process if the others have not joined in time: some steps of torch wait forever."""
    late = DistributedError(
        f"rank {world.rank} of {world.size} timed out waiting for the other processes at {world.address}:{world.port}.",
        hint="check their logs; DDP(timeout=...) sets how long to wait.",
    )
    timer = threading.Timer(strategy.timeout.total_seconds() + _MARGIN, end_process, (late,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _watch(world: World, strategy: Strategy) -> Watchdog:
    """Start the watchdog with a connection of its own: the group's may be busy for a whole training step."""
    store: Any = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - there is no public way to it
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    host = None if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True) else 0
    watch = Watchdog(store.clone(), world.rank, world.size, strategy.watchdog, host=host, launched=launched)
    watch.start()
    return watch


_PARTING = 20
"""Timeout in seconds for the last exchanges of a failed process."""


def _leave() -> None:
    watch = _joined.watch
    if watch is not None:
        watch.stop()
    if watch is not None and watch.broken:
        # what was begun with a process that is stopped is waited for in C++, when torch's objects are taken apart
        faulthandler.dump_traceback_later(_PARTING, exit=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    if dist.is_initialized():
        dist.destroy_process_group()
    _settle()
