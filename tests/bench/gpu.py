"""``python -m tests.bench.gpu``: time unitrain beside the loop by hand on a GPU; `make bench-gpu` calls it.

It takes some ten minutes on a GPU of 2024, writes tests/bench/gpu.json, and so the table of docs/benchmarks.md. All variants
use deterministic algorithms, and have to reach the same weights. ``--device cpu --tiny`` tries the code without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from tests.bench.device_work import FULL, TINY, DeviceWork, by_hand, works
from tests.bench.timing import measured, quiet
from tests.bench.unified import unitrain
from tests.bench.work import job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.device_work import Size
    from tests.bench.timing import Variant
    from tests.bench.work import Job

# ruff: noqa: T201 - it is a script

FILE = Path(__file__).with_name("gpu.json")
FRAMEWORKS = ("reference", "ignite", "lightning")


def finished(run: Variant, device: torch.device) -> Variant:
    """Return ``run``, which ends when the device has."""

    def whole(made: Job) -> dict[str, float]:
        found = run(made)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return found

    return whole


def variants_of(work: DeviceWork, device: torch.device) -> dict[str, Variant]:
    """Return what does ``work`` on a device, but for the loop by hand."""
    options = {"accelerator": device.type, "precision": work.precision}
    runs = {f"unitrain on {name}": unitrain(name, **options) for name in FRAMEWORKS}
    if device.type == "cuda":
        runs |= {
            f"{name}, prefetching": unitrain(name.split()[-1], prefetch_to_device=True, **options) for name in runs
        }
    return {name: finished(run, device) for name, run in runs.items()}


def peak(work: DeviceWork, run: Variant, device: torch.device) -> int | None:
    """Return the most bytes that a run holds on the device, or None where nobody counts them."""
    if device.type != "cuda":
        return None
    for _ in range(2):  # the first one takes work space for matrix products, which stays
        gc.collect()
        torch.cuda.empty_cache()
        with TemporaryDirectory() as folder, quiet():
            made = job(work, Path(folder))
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            run(made)
            most = torch.cuda.max_memory_allocated(device) - before
            del made
    return most


def compared(device: torch.device, size: Size, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield what each item takes with each variant, against the loop by hand.

    Raises:
        AssertionError: If a variant does not reach the weights and metrics of the loop by hand.
    """
    for work in works(device, size).values():
        bare = finished(by_hand(device, work.precision), device)
        variants = variants_of(work, device)
        steps = work.epochs * len(work.train())  # type: ignore[misc]
        held = peak(work, bare, device)
        rows = {}
        for name, times in measured(work, bare, variants, rounds).items():
            most = peak(work, variants[name], device)
            seconds = median(one.wall for one in times.took) / steps
            memory = most / held if most is not None and held else None
            rows[name] = {"ratio": median(times.ratios), "seconds_a_step": seconds, "memory": memory}
        yield {"work": work.name, "says": work.says, "bytes_by_hand": held, "variants": rows}


def told(item: dict[str, Any]) -> str:
    """Return an item for a console."""
    lines = [f"{item['work']}: {item['says']}"]
    for name, row in item["variants"].items():
        memory = f", memory {row['memory']:.3f}" if row["memory"] else ""
        lines.append(f"  {name:36} {row['ratio']:.3f}, {1e3 * row['seconds_a_step']:.3f} ms a step{memory}")
    return "\n".join(lines)


def where(device: torch.device) -> dict[str, Any]:
    """Return what was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found = {"date": datetime.now(UTC).date().isoformat(), "device": name, "torch": torch.__version__}
    return {**found, "cuda": torch.version.cuda, "python": platform.python_version()}


def deterministic() -> None:
    """Let torch use deterministic algorithms only, in all variants: else they could not be told apart from wrong ones."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)


def main() -> None:
    """Measure, print, and write if it was a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a size that a CPU trains in a moment")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} finds no GPU; install its build for your CUDA into .venv")
    device = torch.device("cuda", 0) if given.device == "cuda" else torch.device("cpu")
    deterministic()
    found = []
    for item in compared(device, TINY if given.tiny else FULL, given.rounds):
        found.append(item)
        print(told(item), flush=True)
    if device.type == "cuda" and not given.tiny:
        FILE.write_text(json.dumps({**where(device), "work": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
