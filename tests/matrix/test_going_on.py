"""A run that is broken off in mid-epoch and goes on, on any backend of the cell, is the run that never stopped."""

from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from unitrain import Event, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import SEED, Case, Tape, differences, record

BACKENDS = ["lightning", "ignite", "reference"]
BATCHES = 6
POSITIONS = {
    "mid-epoch": (BATCHES + 2, {}),
    "epoch boundary": (BATCHES, {}),
    "mid-accumulation": (BATCHES + 4, {"accumulate_grad_batches": 3, "precision": "16-mixed"}),
}
"""The batch of the run after which the checkpoint is written, and the options."""


def case_of(position):
    spec, val = partial(cases.spec, "cnn", "adamw", "step"), partial(loader, samples=10)
    return Case(name=position, spec=spec, train=cases.DATA["noisy"], val=val, options=POSITIONS[position][1])


@cache
def uninterrupted(position):
    return record("reference", case_of(position))


def broken_off(framework, case, after, path):
    def act(trainer):
        trainer.on(Event.BATCH_END(once=after), lambda run: run.save_checkpoint(path))

        @trainer.on(Event.CHECKPOINT_SAVED)
        def crash():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(framework, replace(case, act=act))


@pytest.mark.parametrize("reader", BACKENDS)
@pytest.mark.parametrize("writer", BACKENDS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_resumed_run_equals_the_uninterrupted_one(position, writer, reader, tmp_path):
    case, after = case_of(position), POSITIONS[position][0]
    broken_off(writer, case, after, tmp_path / "run.ckpt")
    torch.manual_seed(999)
    trainer = UnifiedTrainer(reader, max_epochs=3, seed=SEED + 1, enable_progress_bar=False, **case.options)
    tape = Tape(trainer)
    result = trainer.fit(case.spec(), case.train(), case.val(), ckpt_path=tmp_path / "run.ckpt")
    rest, whole = tape.trace(trainer, result), uninterrupted(position)
    assert len(rest.losses) == 3 * BATCHES - after  # no batch is run twice, and none is left out
    assert not differences(whole.losses[after:], rest.losses)
    for part in ("weights", "optimizers", "history", "outcome", "rng"):
        assert not differences(getattr(whole, part), getattr(rest, part), part)
