"""Checkpoints with one value changed by hand: what is changed, and the fit that resumes them."""

from __future__ import annotations

import copy
import random
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from unitrain import EMA, EarlyStopping, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer, metric
from unitrain.checkpoint import sharded_files as parts

GONE = object()
CHANGES = {
    "gone": lambda value: GONE,
    "None": lambda value: None,
    "text": lambda value: "x",
    "list": lambda value: [],
    "dict": lambda value: {},
    "negative": lambda value: -1,
    "huge": lambda value: 2**70,
    "tensor": lambda value: torch.zeros(3, 1, 2),
}


class Shuffled:
    """A sampler with a random state of its own."""

    def __init__(self):
        self.own = random.Random(3)

    def __iter__(self):
        return iter(self.own.sample(range(10), 10))

    def __len__(self):
        return 10


def loader():
    x, y = torch.randn(2, 10, 2, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, y[:, :1]), 2, sampler=Shuffled())


def trainer(folder, framework="reference", **options):
    callbacks = [ModelCheckpoint(folder, monitor="val/loss"), EarlyStopping("val/loss", patience=3), EMA(0.9)]
    given = {"max_epochs": 3, "accumulate_grad_batches": 2, "enable_progress_bar": False, "seed": 0}
    return UnifiedTrainer(framework, callbacks=callbacks, **{**given, **options})


def spec():
    torch.manual_seed(0)
    return TrainSpec(
        model=nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)),
        loss=nn.MSELoss(),
        optimizer=partial(torch.optim.Adam, lr=0.1),
        lr_scheduler=partial(StepLR, step_size=1),
        metrics={"mae": metric("mae")},
    )


def written(folder):
    """Return the content of a checkpoint written within the second epoch, within an accumulation."""
    one = trainer(folder)
    one.on(Event.BATCH_END(once=8), lambda run: run.save_checkpoint(folder / "x.ckpt"))
    one.fit(spec(), loader(), loader())
    return parts.read_any(folder / "x.ckpt")


def places(value, path=()):
    """Yield the path of each key and leaf; of long lists those of the first two."""
    if path:
        yield path
    if path == ("loops",):  # which unitrain does not read
        return
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, (list, tuple)) else ()
    )
    for key, one in items:
        yield from places(one, (*path, key))


def changed(content, path, change):
    """Return ``content`` with the value at ``path`` changed, or None if that changes nothing."""
    content = copy.deepcopy(content)
    *outer, last = path
    within = content
    for key in outer:
        within = within[key]
    if isinstance(within, tuple):
        return None
    new = CHANGES[change](within[last])
    if new is GONE:
        del within[last]
    elif type(new) is type(within[last]) and not isinstance(new, torch.Tensor) and new == within[last]:
        return None
    else:
        within[last] = new
    return content
