"""A user's script that goes on with its newest checkpoint; in its first life, if told so, one rank fails.

usage: elastic.py FOLDER FRAMEWORK DEVICES HOSTS fail|go
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch

from unitrain import Event, ModelCheckpoint, UnifiedTrainer
from unitrain.distributed.options import DDP
from unitrain.testing.cases import spec
from unitrain.testing.models import loader


def newest(folder):
    found = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def main(folder, framework, devices, hosts, then) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(11)
    folder, made = Path(folder), spec("cnn", "adamw", "step")
    trainer = UnifiedTrainer(
        framework,
        devices=int(devices),
        num_nodes=int(hosts),
        accelerator="cpu",
        strategy=DDP(timeout=timedelta(minutes=1), watchdog=timedelta(seconds=20)),
        max_epochs=3,
        seed=3,
        callbacks=[ModelCheckpoint(folder / "kept", every_n_train_steps=1, save_top_k=-1)],
        enable_progress_bar=False,
    )

    @trainer.on(Event.BATCH_END(once=5))
    def fail():
        failed = folder / "failed"
        if then == "fail" and trainer.rank == 1 and not failed.exists():
            failed.touch()
            raise ZeroDivisionError

    start = newest(folder / "kept")
    result = trainer.fit(made, loader(), loader(shuffle=False, samples=10), ckpt_path=start)
    torch.save(
        {
            "weights": made.model.state_dict(),
            "optimizer": trainer.optimizers["optimizer"].state_dict() if "optimizer" in trainer.optimizers else None,
            "metrics": result.metrics,
            "history": result.history,
            "step": result.step,
            "network": str(Path("/proc/self/ns/net").readlink()),
            "start": None if start is None else start.name,
        },
        folder / f"{framework}-{trainer.rank}.pt",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
