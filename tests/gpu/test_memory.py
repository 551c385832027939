"""Memory of a GPU: as little as the loop by hand takes, none left behind, measured by callbacks, and found to be too small."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.bench import gpu
from tests.bench.device_work import Size, by_hand, works
from tests.gpu.training import loader, sgd, spec, trainer
from unitrain import BatchSizeFinder, Callback, DeviceStats, EmptyCache, Event, TrainSpec

ROOM = 1.02
"""A goal of the design: the sums of a loss and a metric are all that a run may hold beside the loop by hand."""
BLOCKS = 4096
"""Bytes: eight of the smallest blocks that torch allocates, for a loss and some sums."""
CUDA = torch.device("cuda", 0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["W2", "W5 large", "AMP convolutions"])
@pytest.mark.parametrize("backend", gpu.FRAMEWORKS)
def test_a_run_holds_no_more_at_its_peak_than_the_loop_by_hand(backend, name):
    work = works(CUDA, Size(batches=4, epochs=3))[name]
    bare = gpu.peak(work, gpu.finished(by_hand(CUDA, work.precision), CUDA), CUDA)
    own = gpu.peak(work, gpu.variants_of(work, CUDA)[f"unitrain on {backend}"], CUDA)
    assert own <= ROOM * bare + BLOCKS


class Keeping(Callback):
    """Keeps each loss with its graph, a mistake that people make."""

    def __init__(self):
        self.kept = []

    def on_batch_end(self, run):
        """Keep a tensor of the device."""
        self.kept.append(torch.zeros(1024, device=run.state.loss.device))


def grown(framework, *callbacks):
    """Return the bytes by which the memory in use grows from the second epoch to the sixth."""
    seen = []
    made = trainer(framework, CUDA, max_epochs=6, callbacks=list(callbacks))
    made.on(Event.EPOCH_END, lambda: seen.append(torch.cuda.memory_allocated(CUDA)))
    made.fit(spec("cnn"), loader(CUDA), loader(CUDA))
    return seen[-1] - seen[1]


@pytest.mark.gpu
def test_an_epoch_leaves_nothing_on_the_device(framework):
    assert grown(framework) <= BLOCKS
    assert grown(framework, Keeping()) > BLOCKS  # the control


def test_device_stats_log_what_the_device_holds(framework, device):
    made = trainer(framework, device, callbacks=[DeviceStats()])
    result = made.fit(spec(), loader(device))
    named = {name for row in result.history for name in row if name.startswith("device/")}
    if device.type == "cpu":
        assert named == {"device/process_memory"}
        return
    assert named == {"device/memory_allocated", "device/memory_reserved", "device/memory_peak"}
    row = result.history[-1]
    assert 0 < row["device/memory_allocated"] <= row["device/memory_peak"] <= row["device/memory_reserved"]


@pytest.mark.gpu
def test_an_emptied_cache_is_given_back(framework):
    hoard = torch.empty(64 * 2**20, dtype=torch.uint8, device=CUDA)
    del hoard
    before = torch.cuda.memory_reserved(CUDA)
    trainer(framework, CUDA, callbacks=[EmptyCache()]).fit(spec(), loader(CUDA))
    assert torch.cuda.memory_reserved(CUDA) < before


class Greedy(nn.Module):
    """Takes a mebibyte a sample, on the device or, where there is none, as a device would refuse it."""

    def __init__(self, most):
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self._most = most

    def forward(self, inputs):
        if self._most is not None and len(inputs) > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        taken = torch.zeros(len(inputs), 2**18, device=inputs.device)
        return self.layer(inputs) + taken.sum(1, keepdim=True)


def test_the_batch_size_finder_goes_on_after_a_device_has_run_out_of_memory(framework, device):
    data = DataLoader(TensorDataset(torch.randn(512, 4), torch.randn(512, 1)), 2)
    own = TrainSpec(model=Greedy(100 if device.type == "cpu" else None), loss=nn.MSELoss(), optimizer=partial(sgd))
    if device.type == "cuda":  # 100 MiB more than is in use, and so some 64 samples
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 100 * 2**20) / total, device)
    try:
        finder = BatchSizeFinder(max_val=512)
        finder.run(trainer(framework, device), own, data)
    finally:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert 16 <= finder.batch_size <= 64
    assert [trial.fits for trial in finder.trials][-1] is False
