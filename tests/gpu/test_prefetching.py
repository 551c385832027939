"""``prefetch_to_device=True``: copies have a stream of their own, and neither a bit nor a wait is added by it."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from tests.bench.counting import a_step
from tests.bench.setups import Setup, always
from tests.gpu.test_equal import BACKENDS, CASES, reference
from tests.gpu.test_pretended import run as run_pretended
from tests.gpu.training import loader, on, sgd, trainer
from tests.gpu.waits import DeviceWaits
from unitrain import ConfigError, DataError, TrainSpec
from unitrain.data import transfer
from unitrain.data.datamodules import placement
from unitrain.testing.trace import differences, record

CUDA = torch.device("cuda", 0)


def test_what_is_trained_on_the_pretended_device_is_what_the_host_trains(tmp_path):
    """On streams that run a copy as late as they may, and find memory that is freed too early."""
    found = run_pretended("prefetched,prefetched batches", "ignite", tmp_path / "found.json")
    assert not found["wrong"]
    assert found["equal"] >= 30


TENSORS = {
    "dense": (lambda eye: eye, 1),
    "sparse": (lambda eye: eye.to_sparse().coalesce(), 2),
    "csr": (torch.Tensor.to_sparse_csr, 3),
    "csc": (torch.Tensor.to_sparse_csc, 3),
    "bsr": (lambda eye: eye.to_sparse_bsr(2), 3),
    "bsc": (lambda eye: eye.to_sparse_bsc(2), 3),
    "nested": (lambda eye: torch.nested.nested_tensor([eye, eye[:2]]), 1),
}


@pytest.mark.filterwarnings("ignore:.*prototype:UserWarning", "ignore:Sparse .*:UserWarning")
@pytest.mark.parametrize("name", TENSORS)
def test_every_memory_of_a_tensor_is_found(name):
    made, count = TENSORS[name]
    found = [*transfer._dense(made(torch.eye(4)))]
    assert len(found) == count
    assert all(part.layout is torch.strided and not part.is_nested for part in found)


def test_the_parts_of_a_jagged_tensor_are_found():
    jagged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)
    found = [*transfer._dense(jagged)]
    assert {part.data_ptr() for part in found} >= {jagged.values().data_ptr(), jagged.offsets().data_ptr()}


def test_memory_that_cannot_be_protected_is_refused():
    """A tensor of the host has no stream; neither has a class without memory of its own."""
    copies = transfer._Copies(None, torch.Stream)
    copies._made.append(torch.ones(2))
    with pytest.raises(
        DataError, match=r"the memory of Tensor \(2,\) float32, a Tensor, cannot be protected: .*\nHint: "
    ):
        copies.record()


class Copying:
    """A datamodule that copies its batches."""

    def prepare_data(self):
        """Do nothing."""

    def setup(self, stage):
        """Do nothing."""

    def teardown(self, stage):
        """Do nothing."""

    def train_dataloader(self):
        """Return some batches."""
        return loader(torch.device("cpu"))

    def transfer_batch_to_device(self, batch, device, index):
        """Copy it."""
        return [part.to(device) for part in batch]


def test_a_datamodule_that_copies_batches_itself_is_refused():
    with pytest.raises(ConfigError, match=r"Copying\.transfer_batch_to_device\(\) copies the batches itself"):
        placement(CUDA, Copying(), prefetch=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_no_bit_is_changed(backend, name):
    found = record(backend, replace(CASES[name], options=on(CUDA, CASES[name], prefetch_to_device=True)))
    assert not differences(reference(name, CUDA), found)


def large(count):
    """Return batches that are copied for long, and shuffled, from pinned memory."""
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(64 * count, 65536, generator=generator), torch.arange(64 * count) % 10)
    return DataLoader(data, 64, shuffle=True, pin_memory=True)


def wide():
    """Return a spec whose steps take longer than the copies of their batches."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(65536, 2048), *[nn.Linear(2048, 2048) for _ in range(20)], nn.Linear(2048, 10))
    return TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=partial(sgd))


@pytest.mark.gpu
def test_memory_is_not_reused_before_a_step_has_read_it(framework):
    """Batches of 16 MiB, whose memory is reused all the time."""
    weights = []
    for prefetch in (False, True):
        own = wide()
        trainer(framework, CUDA, prefetch_to_device=prefetch).fit(own, large(40))
        weights.append(own.model.state_dict())
    assert not differences(*weights)


def streams_of(framework, folder, **options):
    """Return the streams of the copies to the device, and of the kernels."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        trainer(framework, CUDA, **options).fit(wide(), large(4))
        torch.cuda.synchronize()
    seen.export_chrome_trace(str(folder / "trace.json"))
    events = [one for one in json.loads((folder / "trace.json").read_text())["traceEvents"] if "args" in one]
    copies = {one["args"]["stream"] for one in events if "HtoD (Pinned" in one.get("name", "")}
    return copies, {one["args"]["stream"] for one in events if one.get("cat") == "kernel"}


@pytest.mark.gpu
def test_copies_have_a_stream_of_their_own(framework, tmp_path):
    copies, kernels = streams_of(framework, tmp_path, prefetch_to_device=True)
    assert copies
    assert not copies & kernels
    copies, kernels = streams_of(framework, tmp_path)  # the control
    assert copies
    assert copies <= kernels


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_step_waits(backend, tmp_path):
    setup = Setup((0, 0), always(prefetch_to_device=True))
    assert a_step(DeviceWaits, setup.run(backend, tmp_path, "cuda")) == 0
