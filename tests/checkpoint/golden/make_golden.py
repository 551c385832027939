"""Writes the golden files beside it: checkpoints of old frameworks, and the weights that these reach when they go on.

The old version must be the one that is imported; torch and the rest come from the development environment::

    pip install --no-deps --target OLD pytorch-lightning==1.9.5 lightning-fabric==1.9.5 \
        lightning-utilities==0.10.1 torchmetrics==0.11.4
    PYTHONPATH=OLD python -W ignore tests/checkpoint/golden/make_golden.py lightning

    pip install --no-deps --target OLD pytorch-ignite==0.4.12
    PYTHONPATH=OLD python -W ignore tests/checkpoint/golden/make_golden.py ignite

Made with Lightning 1.2.10, 1.9.5 (as above), 2.0.9, 2.1.4 (with the same lightning-utilities and torchmetrics), 2.4.0 and
2.5.6 (alone), with Ignite 0.4.12 and 0.5.2, all on torch 2.13 for the CPU. With
2.5.6 there is also ``lightning midway``, and with 2.0.9 ``lightning accumulated``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import types
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HERE = Path(__file__).parent
REACHED = HERE / "reached.json"
WRITTEN_AFTER, EPOCHS, BATCHES = 2, 4, 3


def net():
    """Return the model: the same numbers on each call, without a random number generator."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter).mul(0.7).add(number).sin() / 2)
    return model


def data():
    """Return ten samples in batches of four, four and two."""
    inputs = torch.arange(40.0).view(10, 4).mul(0.37).sin()
    return DataLoader(TensorDataset(inputs, torch.arange(10) % 2), batch_size=4)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


def step_lr(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


def note(name, model, **facts):
    """Add to the notes what the training that went on from the file ``name`` reached."""
    notes = json.loads(REACHED.read_text()) if REACHED.exists() else {}
    weights = {key: value.tolist() for key, value in model.state_dict().items()}
    notes[name] = {**facts, "weights": weights}
    REACHED.write_text(json.dumps(dict(sorted(notes.items())), indent=1) + "\n")


def old_surroundings():
    """Give a Lightning below 2.4 what newer setuptools, torch and numpy lack."""
    import numpy as np

    stub = types.ModuleType("pkg_resources")
    stub.declare_namespace = lambda name: None
    stub.get_distribution = lambda name: types.SimpleNamespace(version=__import__(name).__version__)
    stub.DistributionNotFound = stub.VersionConflict = type("DistributionNotFound", (Exception,), {})
    sys.modules.setdefault("pkg_resources", stub)
    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        vars(np).setdefault(name, value)
    torch.optim.lr_scheduler._LRScheduler = torch.optim.lr_scheduler.LRScheduler  # it was the base class itself


def lightning_module(pl):
    """Return the class of a module that has the model under a name that is not ``model``, beside another state."""

    class Module(pl.LightningModule):
        def __init__(self, width, options):
            super().__init__()
            self.save_hyperparameters()
            self.net = net()
            self.register_buffer("seen", torch.zeros(()))

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = adam(self.net.parameters())
            return [optimizer], [step_lr(optimizer)]

    return Module


def trainer_options(version, variant):
    options = {"logger": False, "accumulate_grad_batches": 2 if variant == "accumulated" else 1}
    if version.startswith("1.2."):
        return {**options, "progress_bar_refresh_rate": 0, "weights_summary": None}
    return {**options, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def write_lightning(pl, module, name, options, midway):
    """Write the file at the end of the second epoch, or after that epoch's first batch."""
    folder = Path(tempfile.gettempdir()) / "golden"  # its name gets into the file

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == BATCHES + 1:
                trainer.save_checkpoint(HERE / name)

    saver = pl.callbacks.ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)
    pl.Trainer(max_epochs=WRITTEN_AFTER, callbacks=[Save() if midway else saver], **options).fit(module, data())
    if not midway:
        (folder / f"epoch={WRITTEN_AFTER - 1}.ckpt").replace(HERE / name)
        shutil.rmtree(folder)


def lightning(variant):
    """Write a file in the way that ``variant`` says, and go on from it to the fourth epoch."""
    old_surroundings()
    import pytorch_lightning as pl

    version = pl.__version__
    name = f"lightning-{version}{'-' + variant if variant else ''}.ckpt"
    options, make = trainer_options(version, variant), lightning_module(pl)
    given = argparse.Namespace(depth=2) if version.startswith("1.") else {"depth": 2}
    on = {} if version.startswith("1.2.") or variant != "midway" else {"enable_checkpointing": False}
    write_lightning(pl, make(3, given), name, {**options, **on}, midway=variant == "midway")

    rest = make(3, given)
    load = torch.load
    torch.load = lambda *given, **more: load(*given, **{**more, "weights_only": False})  # its own file, in its own way
    if version.startswith("1.2."):
        resume = {"checkpoint_callback": False, "resume_from_checkpoint": str(HERE / name)}
        pl.Trainer(max_epochs=EPOCHS, **options, **resume).fit(rest, data())
    else:
        trainer = pl.Trainer(max_epochs=EPOCHS, **options, enable_checkpointing=False)
        trainer.fit(rest, data(), ckpt_path=str(HERE / name))
    note(name, rest.net, framework="lightning", version=version, variant=variant)


def ignite(variant):
    """Write the files of Ignite's Checkpoint after the second epoch, and go on from the first to the fourth."""
    import ignite as library
    from ignite.engine import Engine, Events
    from ignite.handlers import Checkpoint, DiskSaver

    version = library.__version__

    def objects():
        model = net()
        optimizer = adam(model.parameters())
        schedule = step_lr(optimizer)

        def update(engine, batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()

        trainer = Engine(update)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: schedule.step())  # noqa: PLW0108 - it takes no engine
        return {"model": model, "optimizer": optimizer, "lr_scheduler": schedule, "trainer": trainer}

    first = objects()
    saver = DiskSaver(str(HERE), create_dir=False, require_empty=False)
    whole = Checkpoint(first, saver, filename_pattern=f"ignite-{version}.pt", include_self=True)
    bare = Checkpoint({"model": first["model"]}, saver, filename_pattern=f"ignite-{version}-bare.pt")
    first["trainer"].add_event_handler(Events.EPOCH_COMPLETED, whole)
    first["trainer"].add_event_handler(Events.EPOCH_COMPLETED, bare)
    first["trainer"].run(data(), max_epochs=WRITTEN_AFTER)

    second = objects()
    content = torch.load(HERE / f"ignite-{version}.pt", weights_only=True)
    Checkpoint.load_objects(to_load=second, checkpoint=content)
    second["trainer"].run(data(), max_epochs=EPOCHS)
    note(f"ignite-{version}.pt", second["model"], framework="ignite", version=version, variant=variant)


if __name__ == "__main__":
    torch.set_num_threads(1)
    framework, *rest = sys.argv[1:]
    {"lightning": lightning, "ignite": ignite}[framework](rest[0] if rest else "")
