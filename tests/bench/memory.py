"""Peak memory of a fresh process that trains, by the bare loop and by unitrain, after the same imports."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from tests.bench.by_hand import bare_m
from tests.bench.work import LR, WORK, Job, job
from unitrain import TrainSpec, UnifiedTrainer, metric

ITEMS = ("W2", "W5")
ROUNDS = 3
GOAL = 1.02


def fitted(framework: str, made: Job) -> None:
    """Train with unitrain; what is measured is what the bare loop measures."""
    counted = metric("accuracy", num_classes=made.work.classes, average="micro")
    optimizer = partial(torch.optim.SGD, lr=LR)
    spec = TrainSpec(model=made.model, loss=nn.CrossEntropyLoss(), optimizer=optimizer, metrics={"acc": counted})
    options = {"accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": made.folder}
    UnifiedTrainer(framework, max_epochs=made.work.epochs, **options).fit(spec, made.train)


VARIANTS = {"bare_m": bare_m, "ignite": partial(fitted, "ignite"), "lightning": partial(fitted, "lightning")}


def peak() -> int:
    """Return the most that this process has held in memory so far, in KiB; on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(item: str, variant: str) -> None:
    """Train in this process, and print what it held before and at most, in KiB."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        # All processes import all, and the two frameworks build their parts: only the run differs.
        for framework in ("ignite", "lightning"):
            UnifiedTrainer(framework, accelerator="cpu", default_root_dir=folder).create_trainer()
        metric("accuracy", num_classes=2)
        made = job(WORK[item], Path(folder))
        before = peak()
        VARIANTS[variant](made)
    print(json.dumps([before, peak()]))  # noqa: T201 - what the process that asks reads


def peak_of(item: str, variant: str) -> int:
    """Return the peak of a fresh process, the median of some."""
    found = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-W", "ignore", "-m", "tests.bench.memory", item, variant]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )
        found.append(json.loads(done.stdout.splitlines()[-1])[1])
    return int(statistics.median(found))


def memory_table() -> str:
    """Return the peaks and their ratios as a table of Markdown."""
    lines = [
        f"| peak memory of a process (goal: ≤ {GOAL}) | bare_m, MiB | on Ignite | on Lightning |",
        "|---|---|---|---|",
    ]
    for item in ITEMS:
        bare, ignite, lightning = (peak_of(item, variant) for variant in VARIANTS)
        lines.append(f"| {item} | {bare / 1024:.0f} | {ignite / bare:.3f} | {lightning / bare:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:]:
        run(*sys.argv[1:])
    else:
        print(memory_table())  # noqa: T201 - a script
