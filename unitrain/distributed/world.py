"""The rank and world size of this process, read from the launcher's environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unitrain.errors import DistributedError


@dataclass(frozen=True, kw_only=True)
class World:
    """The position of one process among all.

    Attributes:
        rank: Rank of the process, from 0.
        size: Number of processes.
        local_rank: Rank among the processes of its host; also the index of its GPU.
        local_size: Number of processes on its host.
        address: Host of the rendezvous.
        port: Port of the rendezvous.
        launcher: The program that started the processes, for messages.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    launcher: str

    @property
    def hosts(self) -> int:
        """The number of hosts, if all have as many processes as this one."""
        return self.size // self.local_size


Environment = Mapping[str, str]


def world_here(environment: Environment = os.environ) -> World | None:
    """Return the position of this process, or None without a launcher.

    Args:
        environment: The environment variables.

    Raises:
        DistributedError: If a variable is missing or not a number.
    """
    return next((world for read in _LAUNCHERS if (world := read(environment)) is not None), None)


def _torchrun(environment: Environment) -> World | None:
    """Read what ``torchrun`` sets, and Ray Train and most schedulers after it."""
    if not {"RANK", "WORLD_SIZE"} <= environment.keys():
        return None
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    return World(
        rank=rank,
        size=size,
        local_rank=_number(environment, "LOCAL_RANK", rank),
        local_size=_number(environment, "LOCAL_WORLD_SIZE", size),
        address=environment.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(environment, "MASTER_PORT", _PORT),
        launcher="torchrun" if "TORCHELASTIC_RUN_ID" in environment else "the environment (RANK, WORLD_SIZE)",
    )


_PORT = 29500
"""torchrun's own default."""

_NO_STEP = 0xFFFFFFF0
"""SLURM step numbers from here on are not steps: the sbatch script, the salloc shell, and so on."""


def _slurm(environment: Environment) -> World | None:
    """Read what ``srun`` sets for each task of a step; the script of ``sbatch`` and an interactive shell are none."""
    if "SLURM_PROCID" not in environment or not _is_task(environment):
        return None
    apart = any(name in environment for name in ("SLURM_HET_SIZE", "SLURM_PACK_SIZE"))
    # a step may be a part of its job; a heterogeneous one tells of its components there, and of all here
    tasks, nodes, hosts = (
        ("SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NODELIST_HET_GROUP_0")
        if apart
        else ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_STEP_NODELIST")
    )
    rank = _number(environment, "SLURM_PROCID")
    size = _number(environment, tasks, _number(environment, "SLURM_NTASKS", 1))
    if size == 1:
        return None
    if rank >= size:
        raise DistributedError(
            f"SLURM_PROCID={rank} is outside a step of {size} tasks.",
            hint="start all processes with one srun, or with torchrun on each host.",
        )
    even = max(1, size // _number(environment, nodes, _number(environment, "SLURM_NNODES", 1)))
    job = _number(environment, "SLURM_HET_JOB_ID", _number(environment, "SLURM_JOB_ID", 0))
    found = environment.get(hosts) or environment.get("SLURM_JOB_NODELIST", "127.0.0.1")
    return World(
        rank=rank,
        size=size,
        local_rank=_number(environment, "SLURM_LOCALID"),
        local_size=even if apart else _tasks_here(environment, even),
        address=environment.get("MASTER_ADDR") or first_host(found),
        # of jobs on one host, each needs a port of its own
        port=_number(environment, "MASTER_PORT", 15000 + job % 5000),
        launcher="SLURM",
    )


def _is_task(environment: Environment) -> bool:
    """Return whether this is a task that ``srun`` started, and not within a shell that it started."""
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", ""))
    shell = "SLURM_PTY_PORT" in environment or environment.get("SLURM_JOB_NAME") == "bash"
    return step.isdigit() and int(step) < _NO_STEP and not shell


def _tasks_here(environment: Environment, even: int) -> int:
    """Return the number of the step's tasks on this node, from a list such as ``"2(x3),1"``; ``even`` without one."""
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "")):
        counts += [int(count)] * int(times or 1)
    node = _number(environment, "SLURM_NODEID", 0)
    return counts[node] if node < len(counts) else even


_LAUNCHERS: tuple[Callable[[Environment], World | None], ...] = (_torchrun, _slurm)


def first_host(hosts: str) -> str:
    """Return the first name in SLURM's list of hosts, such as ``"node[03-05,9],other"`` or ``"rack[1-2]node[1-4]"``."""
    found = re.match(r"(?:[^,\[\]]|\[[^\[\]]+\])+", hosts)
    if found is None:
        raise DistributedError(f"SLURM_JOB_NODELIST={hosts!r} contains no host.", hint="set MASTER_ADDR.")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", found.group())


def _number(environment: Environment, name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise DistributedError(
            f"the environment variable {name} must be a number; got {text!r}.",
            hint="start the processes with torchrun, which sets it.",
        ) from error
