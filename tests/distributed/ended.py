"""A user's script that torchrun starts on two processes: runs that end, the same runs resumed, or one that fails.

usage: ended.py FOLDER TASK, where TASK is ``write``, ``resume`` or the name of a backend whose fit shall fail.

``write`` and ``resume`` leave what each rank got in FOLDER/TASK-RANK.pt.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import torch

from unitrain import CSVLogger, EarlyStopping, Event, ModelCheckpoint, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

FRAMEWORKS = ("lightning", "ignite", "reference")
ENDS = {
    "epochs": ({"max_epochs": 2}, ()),
    "steps": ({"max_steps": 4}, ()),  # in the middle of the second epoch, which has three
    "early stopping": ({"max_epochs": 9}, (partial(EarlyStopping, "val/loss", patience=1, min_delta=100.0),)),
}
RESULT = ("metrics", "history", "epoch", "step", "stopped_by", "best_checkpoint", "last_checkpoint")


def fit(framework, folder, options, made, *, ckpt_path=None, on=(), **kept):
    torch.manual_seed(11)
    spec = cases.spec("cnn", "adamw", "step")
    keep = ModelCheckpoint(folder, monitor="val/loss", every_n_train_steps=1, save_last=True, **kept)
    trainer = UnifiedTrainer(
        framework, devices=2, strategy="ddp", accelerator="cpu", seed=3, enable_progress_bar=False,
        callbacks=[keep, *(make() for make in made)], loggers=[CSVLogger(folder / "log")], default_root_dir=folder,
        **options,
    )  # fmt: skip
    for event, handler in on:
        trainer.on(event, handler)
    result = trainer.fit(spec, loader(), loader(shuffle=False, samples=10), ckpt_path=ckpt_path)
    optimizer = trainer.optimizers["optimizer"].state_dict() if trainer.optimizers else None
    found = {name: getattr(result, name) for name in RESULT}
    return {"result": found, "weights": spec.model.state_dict(), "optimizer": optimizer}


def write(folder):
    return {
        (end, writer): fit(writer, folder / f"{end}-{writer}", *how)
        for end, how in ENDS.items()
        for writer in FRAMEWORKS
    }


def resume(folder):
    found, wrote = {}, torch.load(folder / f"write-{os.environ['RANK']}.pt", weights_only=False)
    for end, how in ENDS.items():
        for writer in FRAMEWORKS:
            for reader in FRAMEWORKS:
                steps = []
                where = folder / f"{end}-{writer}"
                on = [(Event.BATCH_START, steps.append)]
                newest = wrote[end, writer]["result"]["last_checkpoint"]
                got = fit(reader, where, *how, ckpt_path=newest, on=on)
                found[end, writer, reader] = {**got, "batches": len(steps)}
    return found


def fail(folder, framework) -> None:
    def refuse(run) -> None:
        if run.rank == 1:
            raise ZeroDivisionError

    Path(folder, f"started-{os.environ['RANK']}").touch()
    fit(
        framework,
        folder / "kept",
        {"max_epochs": 2},
        (),
        on=[(Event.BATCH_START(once=4), refuse)],
        save_on_exception=True,
    )


def main(folder, task) -> None:
    torch.set_num_threads(1)
    folder = Path(folder)
    if task in FRAMEWORKS:
        fail(folder, task)
        return
    found = {"write": write, "resume": resume}[task](folder)
    torch.save(found, folder / f"{task}-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
