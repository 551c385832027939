"""A run keeps nothing from epoch to epoch but the rows of its history."""

import collections
import gc
import tracemalloc

import pytest

from tests.bench.counting import batches, spec, trainer
from unitrain import Callback, CSVLogger, EarlyStopping, Event, LRMonitor, ModelCheckpoint

FIRST, LAST = 10, 60
"""Epochs between which memory is compared; in the first ones caches fill."""
ROW = 1500
"""Bytes that an epoch may leave: 1,200 are measured, a row of the history with its numbers and small caches of torch's."""


def reached(framework, folder, look, *more):
    """Return what ``look`` finds after the first and after the last of 50 epochs."""
    found = {}
    kept = ModelCheckpoint(folder / "kept", monitor="val/loss", save_top_k=2)
    stopping = EarlyStopping("val/loss", patience=LAST)
    made = trainer(
        framework,
        max_epochs=LAST + 1,
        callbacks=[stopping, LRMonitor(), kept, *more],
        loggers=[CSVLogger(folder)],
        default_root_dir=folder,
    )

    @made.on(Event.EPOCH_START)
    def _(run):
        if run.state.epoch in (FIRST, LAST):
            gc.collect()
            found[run.state.epoch] = look()

    made.fit(spec(), batches(3), batches(2))
    return found[FIRST], found[LAST]


def allocated(framework, folder, *more):
    """Return the bytes that each of 50 epochs leaves behind."""
    tracemalloc.start()
    try:
        first, last = reached(framework, folder, lambda: tracemalloc.get_traced_memory()[0], *more)
    finally:
        tracemalloc.stop()
    return (last - first) / (LAST - FIRST)


def objects(framework, folder, *more):
    """Return how many objects of each type 50 epochs leave behind, dicts of history aside."""
    first, last = reached(
        framework, folder, lambda: collections.Counter(type(one).__name__ for one in gc.get_objects()), *more
    )
    last.subtract(first)
    return {name: count for name, count in last.items() if count > 3 and name != "dict"}, last["dict"]


class Leak(Callback):
    """Keeps each epoch's loss."""

    def __init__(self):
        self.kept = []

    def on_epoch_end(self, run):
        """Keep it."""
        self.kept.append((run.state.loss.clone(), bytes(1000)))


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_an_epoch_leaves_a_row_of_history_and_nothing_else(framework, tmp_path):
    assert allocated(framework, tmp_path) <= ROW


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_no_objects_are_left_but_rows(framework, tmp_path):
    left, dicts = objects(framework, tmp_path)
    assert not left
    assert dicts <= LAST - FIRST + 3


@pytest.mark.parametrize("framework", ["ignite", pytest.param("lightning", marks=pytest.mark.slow)])
def test_a_leak_is_noticed(framework, tmp_path):
    assert allocated(framework, tmp_path / "bytes", Leak()) > ROW
    left, _ = objects(framework, tmp_path / "objects", Leak())
    assert left["Tensor"] >= LAST - FIRST - 3
