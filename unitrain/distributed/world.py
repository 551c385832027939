"""Where this process stands among those that train together, read from the environment that its launcher left."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from unitrain.errors import DistributedError


@dataclass(frozen=True, kw_only=True)
class World:
    """The place of one process.

    Attributes:
        rank: Its number, from 0, among all processes.
        size: How many there are.
        local_rank: Its number among those of its host; also the index of its GPU.
        local_size: How many its host has.
        address: The host where all meet.
        port: The port there.
        launcher: Who started the processes, for messages.
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
        """How many hosts there are, if each has as many processes as this one."""
        return self.size // self.local_size


Environment = Mapping[str, str]


def world_here(environment: Environment = os.environ) -> World | None:
    """Return the place of this process, or None if no launcher has given it one.

    Args:
        environment: The environment variables.

    Raises:
        DistributedError: If a variable is missing or is no number.
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

_SHELLS = frozenset({"bash", "interactive"})


def _slurm(environment: Environment) -> World | None:
    """Read what ``srun`` sets; an interactive shell of one job is not a task of it."""
    if "SLURM_PROCID" not in environment or environment.get("SLURM_JOB_NAME") in _SHELLS:
        return None
    if _number(environment, "SLURM_NTASKS", 1) == 1:
        return None
    return World(
        rank=_number(environment, "SLURM_PROCID"),
        size=_number(environment, "SLURM_NTASKS"),
        local_rank=_number(environment, "SLURM_LOCALID"),
        local_size=_number(environment, "SLURM_NTASKS") // _number(environment, "SLURM_NNODES", 1),
        address=environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_JOB_NODELIST", "127.0.0.1")),
        # of jobs on one host, each needs a port of its own
        port=_number(environment, "MASTER_PORT", 15000 + _number(environment, "SLURM_JOB_ID", 0) % 5000),
        launcher="SLURM",
    )


_LAUNCHERS: tuple[Callable[[Environment], World | None], ...] = (_torchrun, _slurm)


def first_host(hosts: str) -> str:
    """Return the first name in SLURM's list of hosts, as ``"node[03-05,9],other"``."""
    found = re.match(r"([^,\[\]]+)(?:\[([^\],-]+)[^\]]*\]([^,\[\]]*))?", hosts)
    if found is None:
        raise DistributedError(f"SLURM_JOB_NODELIST={hosts!r} names no host.", hint="set MASTER_ADDR.")
    return "".join(part or "" for part in found.groups())


def _number(environment: Environment, name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError as error:
        raise DistributedError(
            f"the environment variable {name} should be a number; it is {text!r}.",
            hint="start the processes with torchrun, which sets it.",
        ) from error
