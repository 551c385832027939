"""No worker process of a loader outlives a fit, however it ends."""

from __future__ import annotations

import gc
import os
import signal

import psutil
import pytest
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Event, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import tensors

FRAMEWORKS = ["reference", "lightning", "ignite"]


class Broken(TensorDataset):
    def __getitem__(self, index):
        if index == 13:
            raise ValueError("a broken sample")
        return super().__getitem__(index)


def workers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


def data(persistent, kind=TensorDataset):
    return DataLoader(kind(*tensors()), batch_size=4, num_workers=2, persistent_workers=persistent)


def failing(error):
    def fail():
        raise error

    return fail


ENDS = {
    "normal end": (None, None),
    "stop": (lambda run: run.stop(), None),
    "error": (failing(ZeroDivisionError), ZeroDivisionError),
    "worker": (None, ValueError),
    "KeyboardInterrupt": (failing(KeyboardInterrupt), KeyboardInterrupt),
    "ctrl-c": (lambda: os.kill(os.getpid(), signal.SIGINT), None),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), None),
}


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("end", ENDS)
def test_no_worker_is_left(end, framework, persistent, tmp_path):
    act, error = ENDS[end]
    gc.collect()  # the loaders of the test before
    before = workers()
    seen = []
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.on(Event.BATCH_START(once=2), lambda: seen.append(len(set(workers()) - set(before))))
    if act is not None:
        trainer.on(Event.BATCH_END(once=2), act)
    train, val = data(persistent, Broken if end == "worker" else TensorDataset), data(persistent)
    if error is None:
        trainer.fit(cases.spec(), train, val)
    else:
        with pytest.raises(error) as caught:
            trainer.fit(cases.spec(), train, val)
        assert caught.value.__traceback__ is not None  # it holds the frames, and they held the workers
    assert seen == [2]  # they were there
    assert not set(workers()) - set(before)
    assert len(list(val)) == 6  # the loader can be used again
    if persistent:  # the garbage collector would end the queues first, and then wait 5 seconds for each worker
        val._iterator._shutdown_workers()
