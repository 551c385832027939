"""Saving, loading and resuming, beside torch.save, torch.load and a loop by hand."""

from __future__ import annotations

import math
import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import ignite.handlers
import torch
from ignite.engine import Engine, create_supervised_trainer
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from tests.bench.around import Activity
from tests.bench.work import Ready
from unitrain import Event, ModelCheckpoint, TrainSpec, UnifiedTrainer, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAYERS = 8
SIZES = {"1 M": 10**6, "100 M": 10**8}
FRAMEWORKS = ("ignite", "lightning")
SYNCED, UNSYNCED = "torch.save, synced and renamed", "torch.save, renamed, no fsync"
"""By hand the file is replaced in one piece too, as all others do. Only unitrain syncs file and folder to the disk."""


def net(parameters: int) -> nn.Sequential:
    """Return so many parameters in a few layers, always the same."""
    torch.manual_seed(0)
    width = round(math.sqrt(parameters / LAYERS))
    return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(LAYERS)))


def batches(model: nn.Sequential, count: int) -> Ready:
    """Return data for it."""
    generator = torch.Generator().manual_seed(0)
    width = model[0].in_features
    return Ready([(torch.randn(4, width, generator=generator),) * 2 for _ in range(count)])


def spec(model: nn.Module, optimizer: Any = torch.optim.SGD) -> TrainSpec:
    """Return how to train it."""
    return TrainSpec(model=model, loss=nn.MSELoss(), optimizer=partial(optimizer, lr=1e-3))


def trainer(framework: str, folder: Path, **options: Any) -> UnifiedTrainer:
    """Return a trainer that shows nothing."""
    options = {"max_epochs": 1, "seed": 0, **options}
    return UnifiedTrainer(framework, accelerator="cpu", enable_progress_bar=False, default_root_dir=folder, **options)


class Module(LightningModule):
    """The same as a LightningModule."""

    def __init__(self, model: nn.Module, optimizer: Any = torch.optim.SGD) -> None:
        super().__init__()
        self.model, self.optimizer = model, optimizer

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Return the loss."""
        return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return self.optimizer(self.parameters(), lr=1e-3)


def plain_lightning(folder: Path, **options: Any) -> Trainer:
    """Return a Trainer that shows and writes nothing."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, **{"max_epochs": 1, **off, **options})


def trained(model: nn.Module, data: Ready, optimizer: Any = torch.optim.SGD) -> Any:
    """Train by hand, and return the optimizer."""
    made = optimizer(model.parameters(), lr=1e-3)
    for inputs, target in data:
        made.zero_grad()
        nn.functional.mse_loss(model(inputs), target).backward()
        made.step()
    return made


def content(model: nn.Module, optimizer: Any, epoch: int = 1) -> dict[str, Any]:
    """Return what people save to go on later."""
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return {**states, "rng": torch.get_rng_state(), "epoch": epoch}


def saved(path: Path, value: Any, *, sync: bool) -> None:
    """Save by hand."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(value, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    part.replace(path)
    if sync:
        handle = os.open(path.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def saving(folder: Path, size: str, *, sync: bool) -> Activity:
    """Save the state of a training that has done a step.

    unitrain always syncs file and folder; with ``sync`` so does the loop by hand. Lightning and Ignite do not.
    """
    model = net(SIZES[size])
    data = batches(model, 1)
    state = content(model, trained(model, data))
    variants: dict[str, Callable[[], None]] = {}
    for framework in FRAMEWORKS:
        made = trainer(framework, folder)
        made.fit(spec(model), data)
        variants[f"unitrain on {framework}"] = partial(made.save_checkpoint, folder / f"{framework}.ckpt")
    if not sync:
        plain = plain_lightning(folder)
        plain.fit(Module(model), data)
        disk = ignite.handlers.DiskSaver(str(folder), atomic=True, create_dir=False, require_empty=False)
        variants["lightning"] = partial(plain.save_checkpoint, folder / "plain.ckpt")
        variants["ignite"] = partial(disk, state, "plain.pt")
    base = partial(saved, folder / "by_hand.ckpt", state, sync=sync)
    name = f"save {size} parameters"
    return Activity(name, SYNCED if sync else UNSYNCED, base, variants, 7 if size == "1 M" else 4)


def ended(folder: Path, model: nn.Module, **options: Any) -> tuple[Any, Callable[[], None]]:
    """Return a run that has ended, and what saves the best and ``last.ckpt`` in it, as at the end of an epoch."""
    keep, runs = ModelCheckpoint(folder, save_last=True, **options), []
    made = trainer("ignite", folder, callbacks=[keep])
    made.on(Event.FIT_END, runs.append)
    made.fit(spec(model), batches(model, 1))

    def save() -> None:
        keep._want(runs[0], "best.ckpt", ranked=True)
        keep._want(runs[0], "last.ckpt")
        runs[0].write_saves()

    return runs[0], save


def best_and_last(folder: Path, size: str) -> Activity:
    """Save the best and ``last.ckpt`` of one epoch: the same bytes under two names."""
    model = net(SIZES[size])
    state = content(model, trained(model, batches(model, 1)))

    def twice() -> None:
        for name in ("best", "last"):
            saved(folder / f"{name}.pt", state, sync=True)

    variants = {"unitrain on ignite": ended(folder / "linked", model)[1]}
    variants["unitrain on ignite, hard_links=False"] = ended(folder / "apart", model, hard_links=False)[1]
    return Activity(f"save best and last, {size} parameters", f"{SYNCED}, twice", twice, variants)


def held_up(folder: Path, size: str) -> Activity:
    """Go on while a thread saves: what is measured is how long the run waits."""
    model = net(SIZES[size])
    base = partial(saved, folder / "whole.pt", content(model, trained(model, batches(model, 1))), sync=True)
    run, save = ended(folder / "later", model, asynchronous=True)
    name = f"wait for an asynchronous save, {size} parameters"
    return Activity(name, SYNCED, base, {"unitrain on ignite": save}, rest=run.hub.finish_save)


def loading(folder: Path, size: str) -> Activity:
    """Load the weights of a file; unitrain compares all checksums, torch.load none."""
    path = folder / f"weights {size}.ckpt"
    if not path.exists():
        made, model = trainer("ignite", folder), net(SIZES[size])
        made.fit(spec(model), batches(model, 1))
        made.save_checkpoint(path)

    def summed(weights: Any) -> dict[str, float]:
        return {"first": next(iter(weights.values())).flatten()[0].item()}

    def by_torch() -> dict[str, float]:
        return summed(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])

    ways = {"unitrain": lambda: summed(load_weights(path))}
    return Activity(f"load the weights of {size} parameters", "torch.load", by_torch, ways, 11)


STEPS = 5


@cache
def interrupted(folder: Path) -> dict[str, Path]:
    """Return files of trainings that have done one of two epochs, by who wrote them."""
    adam = torch.optim.Adam
    model = net(SIZES["1 M"])
    data = batches(model, STEPS)
    paths = {name: folder / f"resumed by {name}" for name in ("hand", "lightning", "ignite", "unitrain")}
    torch.save(content(model, trained(model, data, adam)), paths["hand"])
    model = net(SIZES["1 M"])
    made = trainer("ignite", folder)
    made.fit(spec(model, adam), data)
    made.save_checkpoint(paths["unitrain"])
    plain = plain_lightning(folder)
    plain.fit(Module(net(SIZES["1 M"]), adam), data)
    plain.save_checkpoint(paths["lightning"])
    parts = supervised()
    parts["trainer"].run(data, max_epochs=1)
    torch.save({name: part.state_dict() for name, part in parts.items()}, paths["ignite"])
    return paths


def supervised() -> dict[str, Any]:
    """Return Ignite's engine and what it trains."""
    model = net(SIZES["1 M"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    engine: Engine = create_supervised_trainer(model, optimizer, nn.MSELoss())
    return {"trainer": engine, "model": model, "optimizer": optimizer}


def resuming(folder: Path) -> Activity:
    """Load a file of the first epoch, and train the second."""
    paths, adam = interrupted(folder), torch.optim.Adam
    data = batches(net(SIZES["1 M"]), STEPS)

    def reached(model: nn.Module) -> dict[str, float]:
        return {"weights": sum(one.detach().double().abs().sum().item() for one in model.parameters())}

    def by_hand() -> dict[str, float]:
        model = net(SIZES["1 M"])
        found = torch.load(paths["hand"], map_location="cpu", weights_only=True)
        model.load_state_dict(found["model"])
        optimizer = adam(model.parameters(), lr=1e-3)
        optimizer.load_state_dict(found["optimizer"])
        torch.set_rng_state(found["rng"])
        for inputs, target in data:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), target).backward()
            optimizer.step()
        return reached(model)

    def unitrain_on(framework: str) -> dict[str, float]:
        model = net(SIZES["1 M"])
        trainer(framework, folder, max_epochs=2).fit(spec(model, adam), data, ckpt_path=paths["unitrain"])
        return reached(model)

    def by_lightning() -> dict[str, float]:
        model = net(SIZES["1 M"])
        plain_lightning(folder, max_epochs=2).fit(Module(model, adam), data, ckpt_path=str(paths["lightning"]))
        return reached(model)

    def by_ignite() -> dict[str, float]:
        parts = supervised()
        found = torch.load(paths["ignite"], map_location="cpu", weights_only=False)
        ignite.handlers.Checkpoint.load_objects(parts, found)
        parts["trainer"].run(data, max_epochs=2)
        return reached(parts["model"])

    ways: dict[str, Any] = {f"unitrain on {name}": partial(unitrain_on, name) for name in FRAMEWORKS}
    ways |= {"lightning": by_lightning, "ignite": by_ignite}
    return Activity("resume 1 M parameters", "a loop by hand", by_hand, ways, 3)


def activities(folder: Path) -> dict[str, Callable[[], Activity]]:
    """Return what is done with files."""
    return {
        **{f"save {size} parameters": partial(saving, folder, size, sync=True) for size in SIZES},
        **{f"save {size} parameters, no fsync": partial(saving, folder, size, sync=False) for size in SIZES},
        "save best and last": partial(best_and_last, folder, "100 M"),
        "wait for an asynchronous save": partial(held_up, folder, "100 M"),
        **{f"load the weights of {size} parameters": partial(loading, folder, size) for size in SIZES},
        "resume 1 M parameters": partial(resuming, folder),
    }
