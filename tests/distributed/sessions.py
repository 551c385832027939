"""Starts the processes of a test by torchrun, and reads what they found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def torchrun(script: str, *arguments: object, processes: int = 2, timeout: float = 280) -> subprocess.CompletedProcess:
    """Run a script of this folder on some processes and return how it ended."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [str(HERE / script), *map(str, arguments)]
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def conform(section: str, folder: Path, processes: int = 2, timeout: float = 280) -> dict[str, dict[str, object]]:
    """Return what each rank found in a section of conform.py."""
    try:
        ended = torchrun("conform.py", section, folder, processes=processes, timeout=timeout)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"it hung:\n{(late.stderr or b'').decode()[-6000:]}") from late
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {f"rank {rank}": json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)}
