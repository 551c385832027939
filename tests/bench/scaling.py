"""How much faster two processes are than one, on this machine: samples a second, the same work for each process.

    python tests/bench/scaling.py

Prints a table for README's page on several processes. It is no test: clocks of a busy machine prove nothing.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Event, TrainSpec, UnifiedTrainer

# ruff: noqa: T201 - it is a script

BATCH, STEPS, SKIPPED = 128, 120, 20
WIDTHS = (256, 1024, 2048)


def note(run) -> None:
    """Leave the times of the batches that count."""
    times = vars(run).setdefault("times", [])
    times.append(time.perf_counter())
    if run.rank == 0 and len(times) == STEPS:
        seconds = statistics.median(b - a for a, b in zip(times[SKIPPED:], times[SKIPPED + 1 :], strict=False))
        Path(run.config.default_root_dir, "seconds").write_text(repr(seconds))


def seconds_a_step(framework: str, devices: int, width: int) -> float:
    """Return the median time of a step with ``BATCH`` samples for each process, one thread each."""
    torch.set_num_threads(devices)  # shared out among them
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    spec = TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    samples = BATCH * STEPS * devices
    data = TensorDataset(torch.randn(samples, width), torch.randint(0, 10, (samples,)))
    with TemporaryDirectory() as folder:
        options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": folder}
        trainer = UnifiedTrainer(framework, devices=devices, **options)
        trainer.on(Event.BATCH_END, note)
        trainer.fit(spec, DataLoader(data, BATCH))
        return float(Path(folder, "seconds").read_text())


def main() -> None:
    """Measure and print."""
    print("| width | parameters | framework | 1 process, ms a step | 2 processes, ms a step | efficiency |")
    print("| --- | --- | --- | --- | --- | --- |")
    for width in WIDTHS:
        count = 2 * (width * width + width) + 10 * width + 10
        for framework in ("ignite", "lightning"):
            one, two = (1e3 * seconds_a_step(framework, devices, width) for devices in (1, 2))
            print(f"| {width} | {count:,} | {framework} | {one:.2f} | {two:.2f} | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
