"""What a run ran with: releases, hardware, the commit of the working folder. None of it is needed to train."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from unitrain.compat import blocked
from unitrain.compat.windows import WINDOWS
from unitrain.reports.html.numbers import size
from unitrain.utilities.version import __version__

_PACKAGES = (*(name for name in WINDOWS if name != "python"), "torchvision", "numpy", "jsonargparse")
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
"""Hooks and monitors of a repository start no programs. Filters in its .git/config do, which a clone does not bring."""
_SECONDS = 5


def versions() -> dict[str, str]:
    """Return the releases of what matters for the numbers of a run. Nothing is imported but torch."""
    import torch  # noqa: PLC0415 - reading a record needs none

    found = {"python": platform.python_version(), "unitrain": __version__}
    found |= {name: held[0] for name in _PACKAGES if (held := blocked.installed(name))}
    cuda = torch.version.cuda
    return found | ({"cuda": cuda} if cuda else {})


def hardware() -> dict[str, str]:
    """Return the machine. It initialises no accelerator, because processes may still be forked."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores or ""),
        "memory": _memory(),
        "gpus": ", ".join(_gpus()),
    }
    return {name: text for name, text in found.items() if text}


def _processor() -> str:
    with suppress(OSError):
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"), re.MULTILINE)
        if named:
            return named[1]
    return platform.processor()


def _memory() -> str:
    with suppress(OSError, ValueError, AttributeError):
        return size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return ""


def _gpus() -> list[str]:
    """Return the names of NVIDIA's devices, as the driver tells them without CUDA."""
    found = []
    with suppress(OSError):
        for one in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            named = re.search(r"^Model:\s*(.+)$", one.read_text("utf-8", "replace"), re.MULTILINE)
            found.append(named[1] if named else "NVIDIA")
    return found


def device(used: Any, processes: int) -> dict[str, str]:
    """Return the device of a model, and the number of processes if there were several."""
    import torch  # noqa: PLC0415 - as above

    told = {"device": "" if used is None else str(used), "processes": "" if processes == 1 else str(processes)}
    if told["device"].startswith("cuda") and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        told["device"] += f" ({torch.cuda.get_device_name(used)})"
    return {name: text for name, text in told.items() if text}


def git(folder: str | Path = ".") -> dict[str, str] | None:
    """Return the commit and branch of a folder, and how many tracked files are changed; None without a repository."""
    commit = _asked(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _asked(folder, "status", "--porcelain", "--untracked-files=no")
    told = "unknown" if changed is None else str(len(changed.splitlines()))
    return {
        "commit": commit,
        "branch": _asked(folder, "rev-parse", "--abbrev-ref", "HEAD") or "",
        "changed_files": told,
    }


def _asked(folder: str | Path, *arguments: str) -> str | None:
    """Return what git answers, or None."""
    surroundings = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - fixed arguments
            [*_GIT, "-C", str(folder), *arguments],
            capture_output=True,
            check=True,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
        )
        return done.stdout.decode("utf-8", "replace").strip()
    return None
