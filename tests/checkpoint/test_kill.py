"""A kill at any instant leaves a checkpoint that loads and goes on exactly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from unitrain import UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.testing.trace import differences

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from unitrain import Event, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
torch.manual_seed(5)
trainer = UnifiedTrainer(sys.argv[1], max_epochs=-1, seed=0, enable_progress_bar=False)
trainer.on(Event.BATCH_END, lambda run: run.save_checkpoint(sys.argv[2] + f"/{run.state.batch % 3}.ckpt"))
trainer.on(Event.CHECKPOINT_SAVED(once=3), lambda: print("ready", flush=True))
trainer.fit(spec(), loader())
"""


def killed(framework, folder, after):
    """Train in a process of its own, saving after each batch, and kill it ``after`` seconds."""
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, framework, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def goes_on(framework, folder):
    """The newest file goes on to what an uninterrupted run reaches two batches later."""
    from unitrain.testing.cases import spec
    from unitrain.testing.models import loader

    files = sorted(folder.glob("[0-9].ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for path in files:
        io.read(path)  # none is damaged
    step = io.read(files[-1])["unitrain"]["hub"]["step"] + 2
    torch.manual_seed(5)
    whole = spec()
    options = {"max_epochs": None, "max_steps": step, "seed": 0, "enable_progress_bar": False}
    UnifiedTrainer("reference", **options).fit(whole, loader())
    rest = spec()
    UnifiedTrainer(framework, **options).fit(rest, loader(), ckpt_path=files[-1])
    assert not differences(dict(whole.model.state_dict()), dict(rest.model.state_dict()))


@pytest.mark.parametrize("number", range(2))
def test_a_kill_while_saving_loses_nothing(number, tmp_path):
    chance = random.Random(number)
    writer, reader = chance.choice(["ignite", "lightning"]), chance.choice(["ignite", "lightning", "reference"])
    killed(writer, tmp_path / "run", chance.uniform(0, 0.2))
    goes_on(reader, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_nothing(tmp_path):
    chance = random.Random(0)
    for number in range(200):
        writer = chance.choice(["ignite", "lightning"])
        killed(writer, tmp_path / str(number), chance.uniform(0, 0.3))
        goes_on(chance.choice(["ignite", "lightning", "reference"]), tmp_path / str(number))
