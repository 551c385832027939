"""A user's script in which something happens to one process; run by itself, or by torchrun on each process.

usage: faulty.py FOLDER PLAN, where PLAN is JSON: the fields of Plan.

It leaves in FOLDER: ``fault``, the time at which the fault came; ``reached-RANK.pt``, the weights at the end; and
``checkpoints``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unitrain import EarlyStopping, Event, ModelCheckpoint, TerminateOnNaN, TrainSpec, UnifiedTrainer
from unitrain.data.sharding import OwnBatches
from unitrain.distributed.options import DDP

WORD = "the fault itself: café"
BATCH = 8  # of the run, from 0, with 6 in an epoch: in its second epoch
SAMPLES, EPOCHS = 48, 3


@dataclass
class Plan:
    """What is trained, and what happens to whom and when.

    Attributes:
        framework: The backend.
        size: How many processes.
        hosts: On how many hosts.
        fault: What happens: a name in FAULTS, or nothing.
        moment: When: a name in MOMENTS.
        rank: To whom; -1 is everybody.
        resume: A checkpoint to go on from.
        watchdog: Seconds.
        timeout: Seconds.
        workers: Of the loader.
        data: How the data of the ranks differs.
        options: Further arguments of the trainer.
        catch: Whether the script survives an error, and does something else for ever.
    """

    framework: str = "ignite"
    size: int = 2
    hosts: int = 1
    fault: str = ""
    moment: str = "batch"
    rank: int = 1
    resume: str = ""
    watchdog: float = 60
    timeout: float = 1800
    workers: int = 0
    data: str = ""
    options: dict = field(default_factory=dict)
    catch: bool = False


def at_once(folder) -> None:
    """Note when it happened; only the first of those to whom it happens does."""
    try:
        with Path(folder, "fault").open("x") as file:
            file.write(str(time.time()))
    except FileExistsError:
        return


def _raise(_) -> None:
    raise ValueError(WORD)


def _stall(_) -> None:
    time.sleep(600)


def _network(_) -> None:
    subprocess.run(["ip", "link", "set", os.environ["UNITRAIN_TEST_CARD"], "down"], check=True)


def _signal(number):
    return lambda _: os.kill(os.getpid(), number)


FAULTS = {
    "raise": _raise,
    "kill": _signal(signal.SIGKILL),
    "freeze": _signal(signal.SIGSTOP),
    "exit": lambda _: os._exit(0),
    "stall": _stall,
    "nap": lambda _: time.sleep(2),
    "network": _network,
    "stop": lambda run: run.stop(),
    "sigterm": _signal(signal.SIGTERM),
    "sigint": _signal(signal.SIGINT),
}
"""What can happen at a moment; the others are in the data or the loss."""


_AT = {"validation": 12, "batch": BATCH, "after_backward": BATCH}
"""Batches done at those moments that come often."""


@dataclass
class Fault:
    """A handler that lets it happen at its moment."""

    folder: str
    plan: Plan
    moment: str

    def __call__(self, run) -> None:
        if self.plan.rank not in (run.rank, -1) or self.moment != self.plan.moment or self.plan.resume:
            return
        if run.state.batch != _AT.get(self.moment, run.state.batch):
            return
        if self.moment == "backward":
            next(run.model.parameters()).register_hook(lambda _: self.happen(run) if run.state.batch == BATCH else None)
        elif self.moment == "checkpoint":
            _within_save(lambda: self.happen(run))
        else:
            self.happen(run)

    def happen(self, run) -> None:
        at_once(self.folder)
        FAULTS[self.plan.fault](run)


MOMENTS = {
    "fit_start": Event.FIT_START,
    "batch": Event.BATCH_START,
    "backward": Event.FIT_START,
    "after_backward": Event.BACKWARD_END,
    "validation": Event.VAL_BATCH_START,
    "checkpoint": Event.FIT_START,
    "epoch_end": Event.EPOCH_END(once=2),
}


def _within_save(happen) -> None:
    """Let it happen in the middle of the third file that this process writes."""
    save, count = torch.save, [0]

    def half(content, file, **options) -> None:
        count[0] += isinstance(content, dict)  # pickle saves tensors by the same function
        if count[0] == 3:
            file.write(b"the beginning of an archive" * 100)
            file.flush()
            happen()
        save(content, file, **options)

    torch.save = half


class Numbers(Dataset):
    """Samples that are numbers; one can be broken."""

    def __init__(self, folder, broken=None) -> None:
        drawn = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(SAMPLES, 6, generator=drawn)
        self.targets = torch.randn(SAMPLES, 2, generator=drawn)
        self.folder, self.broken = folder, broken

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index):
        if index == self.broken:
            at_once(self.folder)
            raise ValueError(WORD)
        return self.inputs[index], self.targets[index]


class Stream(IterableDataset):
    """Batches of unknown number; a rank may have fewer."""

    def __init__(self, folder, count, short, rank) -> None:
        self.folder, self.count, self.short, self.rank = folder, count, short, rank
        self.data = Numbers(folder)

    def __iter__(self):
        mine = int(os.environ.get("RANK", "0"))
        for index in range(self.short if mine == self.rank else self.count):
            if mine == self.rank and index == self.short - 1:
                at_once(self.folder)
            yield self.data[(4 * mine + index) % SAMPLES]


class Few(list):
    """A list of batches that has fewer on one rank."""

    def __init__(self, batches, short, rank) -> None:
        super().__init__(batches)
        self.short, self.rank = short, rank

    def __reduce__(self):
        return Few, (list(self[:]), self.short, self.rank)

    def __len__(self) -> int:
        return self.short if int(os.environ.get("RANK", "0")) == self.rank else super().__len__()

    def __iter__(self):
        return iter(self[: len(self)])


def loader(folder, plan):
    if plan.data == "stream":
        return OwnBatches(DataLoader(Stream(folder, 24, 16, plan.rank), batch_size=4))
    if plan.data == "few":
        whole = Numbers(folder)
        return OwnBatches(Few([(whole.inputs[:4], whole.targets[:4])] * 6, 5, plan.rank))
    data = Numbers(folder, 5 if plan.data == "broken" else None)
    return DataLoader(data, batch_size=SAMPLES // 6 // plan.size, shuffle=True, num_workers=plan.workers)


class Net(nn.Module):
    """With random numbers and a state, so that a resume that is not exact is seen."""

    def __init__(self, wide=8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, wide), nn.BatchNorm1d(wide), nn.Dropout(0.2), nn.Linear(wide, 2))

    def forward(self, inputs):
        return self.layers(inputs)


@dataclass
class Loss:
    """Squares; not a number on one rank in one batch, if that is the fault."""

    folder: str
    plan: Plan

    def __call__(self, output, target):
        value = nn.functional.mse_loss(output, target)
        self.plan.seen = seen = getattr(self.plan, "seen", 0) + output.requires_grad
        mine = int(os.environ.get("RANK", "0")) == self.plan.rank
        if self.plan.fault == "nan" and mine and seen == BATCH:
            at_once(self.folder)
            return torch.sqrt(value * 0 - 1)
        return value


@dataclass
class OwnLoss:
    """Logs on each rank another value, of which only one rank's gets worse."""

    folder: str
    plan: Plan

    def __call__(self, run) -> None:
        mine = run.rank == self.plan.rank
        run.log("own", float(run.state.epoch if mine else -run.state.epoch))
        at_once(self.folder)


def callbacks(folder, plan):
    found = [ModelCheckpoint(dirpath=Path(folder, "checkpoints"), every_n_train_steps=2, save_top_k=-1)]
    if plan.fault == "nan" and not plan.options.get("detect_anomaly"):
        found.append(TerminateOnNaN())
    if plan.fault == "early":
        found.append(EarlyStopping("train/own", patience=1))
    return found


def train(folder, plan) -> None:
    torch.manual_seed(1)
    differs = plan.data == "model" and int(os.environ.get("RANK", "0")) == plan.rank
    spec = TrainSpec(
        model=Net(9 if differs else 8), loss=Loss(folder, plan), optimizer=partial(torch.optim.Adam, lr=0.01)
    )
    trainer = UnifiedTrainer(
        plan.framework,
        devices=plan.size // plan.hosts,
        num_nodes=plan.hosts,
        strategy=DDP(timeout=timedelta(seconds=plan.timeout), watchdog=timedelta(seconds=plan.watchdog)),
        accelerator="cpu",
        max_epochs=EPOCHS,
        seed=7,
        callbacks=callbacks(folder, plan),
        enable_progress_bar=False,
        default_root_dir=folder,
        **plan.options,
    )
    if plan.fault in FAULTS:
        trainer.on(MOMENTS[plan.moment], Fault(folder, plan, plan.moment))
    if plan.fault == "early":
        trainer.on(Event.EPOCH_START, OwnLoss(folder, plan))
    validation = DataLoader(Numbers(folder), batch_size=8)
    result = trainer.fit(spec, loader(folder, plan), validation, ckpt_path=plan.resume or None)
    reached = {"weights": spec.model.state_dict(), "stopped_by": result.stopped_by, "step": result.step}
    torch.save(reached, Path(folder, f"reached-{trainer.rank}.pt"))


def main(folder, plan) -> None:
    torch.set_num_threads(1)
    plan = Plan(**json.loads(plan))
    try:
        train(folder, plan)
    except Exception as error:
        if not plan.catch:
            raise
        print("survived:", error, flush=True)  # noqa: T201 - a user's script
        time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
