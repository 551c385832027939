"""A user's script, the same however its processes are started; each rank leaves what it has reached.

usage: train.py FOLDER FRAMEWORKS DEVICES HOSTS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from unitrain import UnifiedTrainer, UnitrainError
from unitrain.testing.cases import spec
from unitrain.testing.models import loader


def run(framework, devices, hosts):
    torch.manual_seed(11)
    made = spec("cnn", "adamw", "step")
    options = {"max_epochs": 2, "seed": 3, "accelerator": "cpu", "strategy": "ddp", "enable_progress_bar": False}
    trainer = UnifiedTrainer(framework, devices=devices, num_nodes=hosts, **options)
    result = trainer.fit(made, loader(), loader(shuffle=False, samples=10))
    return trainer.rank, {
        "weights": made.model.state_dict(),
        "optimizer": trainer.optimizers["optimizer"].state_dict() if "optimizer" in trainer.optimizers else None,
        "metrics": result.metrics,
        "history": result.history,
        "step": result.step,
        "network": str(Path("/proc/self/ns/net").readlink()),
    }


def main(folder, frameworks, devices, hosts) -> None:
    torch.set_num_threads(1)
    for framework in frameworks.split(","):
        try:
            rank, reached = run(framework, int(devices) if devices.isdigit() else devices, int(hosts))
        except UnitrainError as error:
            rank, reached = int(os.environ["RANK"]), f"{type(error).__name__}: {error}"
        torch.save(reached, Path(folder, f"{framework}-{rank}.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
