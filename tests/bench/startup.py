"""What the first step costs, and the import."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.bench.goals import CLOCK, Goal
from tests.bench.timing import quiet
from tests.bench.unified import plain
from tests.bench.work import Work, collated, fully_connected, job

ONE_STEP = Work("one step", "", lambda: fully_connected(64, 32, 10), 10, 1, collated(32, 1))
VARIANTS = {f"unitrain on {name}": plain(name) for name in ("lightning", "ignite")}
GOALS = (Goal(ONE_STEP.name, "lightning", CLOCK, 10.0), Goal(ONE_STEP.name, "ignite", CLOCK, 3.2))


def one_step(framework: str, rounds: int = 30) -> float:
    """Return the median time in milliseconds of a warm ``UnifiedTrainer(...)`` and a fit of one step."""
    took = []
    run = plain(framework)
    with TemporaryDirectory() as folder, quiet():
        for _ in range(rounds + 3):
            made = job(ONE_STEP, Path(folder))
            start = time.perf_counter()
            run(made)
            took.append(1000 * (time.perf_counter() - start))
    return median(took[3:])


def imports(rounds: int = 5) -> dict[str, float]:
    """Return the processor seconds of ``import torch``, and what ``UnifiedTrainer`` adds; the least of several."""
    code = (
        "import time; begin = time.process_time(); import torch; middle = time.process_time();"
        "from unitrain import TrainSpec, UnifiedTrainer; print(middle - begin, time.process_time() - middle)"
    )
    found = []
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append([float(one) for one in done.stdout.split()])
    return {"torch": min(one for one, _ in found), "unitrain": min(other for _, other in found)}
