"""A run that is resumed on another backend writes what the uninterrupted run writes."""

from __future__ import annotations

import shutil

import pytest
import torch

from unitrain import EMA, CSVLogger, EarlyStopping, Event, LRMonitor, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader


def train(framework, folder, *, save_at=None, ckpt_path=None):
    torch.manual_seed(0)
    ema, stopping = EMA(0.8), EarlyStopping("val/loss", patience=2, min_delta=0.05)
    logger = CSVLogger(folder)
    trainer = UnifiedTrainer(
        framework, max_epochs=4, seed=3, enable_progress_bar=False, loggers=[logger], log_every_n_steps=1
    )
    path = folder / "saved.ckpt"
    if save_at is not None:
        save_at = Event.BATCH_END(once=save_at) if isinstance(save_at, int) else save_at
        trainer.on(save_at, lambda run: run.save_checkpoint(path))
        trainer.on(Event.BATCH_END(once=15), lambda run: run.stop())  # it goes on for a while, and is then broken off
    spec = cases.spec("mlp", "sgd", "step", callbacks=[LRMonitor(), ema, stopping])
    result = trainer.fit(spec, loader(), loader(samples=6), ckpt_path=ckpt_path)
    return result, logger, ema, stopping, path


@pytest.mark.parametrize("save_at", [8, 12, Event.EPOCH_END(once=2)], ids=["mid-epoch", "last batch", "epoch end"])
@pytest.mark.parametrize("after", ["reference", "lightning", "ignite"])
@pytest.mark.parametrize("before", ["reference", "lightning", "ignite"])
def test_resumed_run_equals_the_uninterrupted_one(before, after, save_at, tmp_path):
    expected, whole, average, stopped, _ = train("reference", tmp_path / "whole")
    *_, path = train(before, tmp_path / "broken", save_at=save_at)
    shutil.copytree(tmp_path / "broken", tmp_path / "again")
    result, logger, ema, stopping, _ = train(after, tmp_path / "again", ckpt_path=path)
    assert logger.path == tmp_path / "again" / "run" / "metrics.csv"
    assert logger.path.read_bytes() == whole.path.read_bytes()
    assert all(torch.equal(ema.average[name], one) for name, one in average.average.items())
    assert stopping.state_dict() == stopped.state_dict()
    assert result.stopped_by == expected.stopped_by
    assert result.history == expected.history
