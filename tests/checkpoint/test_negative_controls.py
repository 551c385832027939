"""The resume tests can fail: one seeded fault at a time, and it is caught."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from unitrain import DataError
from unitrain.checkpoint import restore as snapshot
from unitrain.checkpoint import resume as going_on
from unitrain.data import position
from unitrain.data.batches import Batches
from unitrain.loop import fit as program
from unitrain.loop.meter import StageMeter
from unitrain.utilities.rng import RngSnapshot

found = importlib.util.spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
resume = importlib.util.module_from_spec(found)
found.loader.exec_module(resume)


def forgets(*args, **kwargs):
    return None


def skips_one_more(original, loader, count, *workers):
    return original(loader, count + 1, *workers)


def starts_at_the_beginning(original, loader, count, *workers):
    return iter(loader)


def loses_the_gradients(original, model, sharded):
    return {}


def loses_schedule_steps(original, job, path):
    original(job, path)
    for schedule in job.schedules:
        schedule.steps = 0


def loses_the_optimizer(original, path, pairs):
    pass


def forgets_the_batch_read_ahead(original, self, *args, **kwargs):
    original(self, *args, **kwargs)
    if self._start is not None:
        object.__setattr__(self._start, "before_ahead", None)


def forgets_the_loaders_state(original, progress, job):
    rng = {name: state for name, state in progress.rng.items() if name != "own"}  # the generator that it keeps
    return original(replace(progress, loader=None, rng=rng), job)


FAULTS = {
    "random numbers": ((program, "take_up", forgets), "momentum, epoch schedule"),
    "gradients": ((program, "gradients", loses_the_gradients), "mid-accumulation"),
    "the state of the data": (
        (program, "take_up", forgets_the_loaders_state),
        "stateful dataset, epoch boundary",
    ),
    "one batch too many": ((position, "skipped", skips_one_more), "mid-epoch"),
    "the epoch anew": ((position, "skipped", starts_at_the_beginning), "mid-epoch"),
    "what was measured": ((StageMeter, "load_state_dict", forgets), "mid-epoch"),
    "the steps of a schedule": ((going_on, "own_again", loses_schedule_steps), "first batch"),
    "the optimizer": ((snapshot, "_load_optimizers", loses_the_optimizer), "momentum, epoch schedule"),
    "the generators": ((RngSnapshot, "restore", forgets), "noisy, workers 0"),
    "the batch read ahead": ((Batches, "__init__", forgets_the_batch_read_ahead), "stream with dropout"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_lost_part_is_noticed(name, tmp_path, monkeypatch):
    (owner, attribute, fault), case_name = FAULTS[name]
    case, after = resume.CASES[case_name]
    whole = resume.uninterrupted(case_name)
    resume.written("ignite", case, after, tmp_path / "run.ckpt")
    original = getattr(owner, attribute)

    @functools.wraps(original)
    def faulty(*args, **kwargs):
        return fault(original, *args, **kwargs)

    monkeypatch.setattr(owner, attribute, forgets if fault is forgets else faulty)
    if name == "gradients":  # lost when they are written
        resume.written("ignite", case, after, tmp_path / "run.ckpt")
    with pytest.raises((AssertionError, DataError)):
        resume.assert_goes_on(whole, resume.resumed("ignite", case, tmp_path / "run.ckpt"))
