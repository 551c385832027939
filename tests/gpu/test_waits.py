"""The host does not wait for the device: not for a batch, nor for a loss, a metric or a row; counted by the profiler."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.bench.counting import Waits, a_step
from tests.bench.setups import SETUPS
from tests.gpu.training import loader, spec, trainer
from tests.gpu.waits import DeviceWaits, copied_from, waits_in
from unitrain import Callback, Event
from unitrain.callbacks import progress

COUNTERS = {"cpu": Waits, "cuda": DeviceWaits}
"""Without a device the operators are counted that would wait for one."""


OFTEN = {"top-2 accuracy of torchmetrics": 4}
"""Setups with an operator that counts once on the host and may wait several times on a device: ``unique`` sorts and counts."""


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """A bar is drawn once: how often it is, is the clock's."""
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 1e9)


@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("backend", ["ignite", "lightning"])
def test_no_step_waits_unless_it_says_why(backend, name, device, tmp_path):
    setup = SETUPS[name]
    most = setup.waits * (OFTEN.get(name, 1) if device.type == "cuda" else 1)
    assert a_step(COUNTERS[device.type], setup.run(backend, tmp_path, device.type)) <= most


class Reading(Callback):
    """Reads the loss of each batch, as people do."""

    def on_batch_end(self, run):
        """Read it."""
        run.state.loss.item()


@pytest.mark.parametrize("backend", ["ignite", "lightning"])
def test_a_callback_that_reads_the_loss_is_noticed(backend, device, tmp_path):
    """The control: the counter sees one wait a step."""
    from tests.bench.setups import Setup

    setup = Setup((0, 0), lambda folder: {"callbacks": [Reading()]})
    assert a_step(COUNTERS[device.type], setup.run(backend, tmp_path, device.type)) == 1


def test_the_events_of_a_profile_are_read_right():
    """By the names of CUPTI, which a machine without a GPU does not have."""
    names = [
        "cudaLaunchKernel",
        "cudaStreamSynchronize",
        "cudaMemcpyAsync",
        "Memcpy HtoD (Pinned -> Device)",
        "aten::copy_",
    ]
    assert waits_in(names) == 1
    assert copied_from(names) == {"Pinned"}
    assert copied_from(["Memcpy HtoD (Pageable -> Device)", "Memcpy DtoH (Device -> Pageable)"]) == {"Pageable"}


def copies_of(backend, device, data, path=None, act=None):
    """Return from which memory a fit copies its batches; the weights are on the device before."""
    own = spec()
    own.model.to(device)
    made = trainer(backend, device)
    if act is not None:
        act(made)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
        made.fit(own, data, ckpt_path=path)
        torch.cuda.synchronize()
    kernels = [event for event in seen.events() if event.name.startswith("Memcpy HtoD")]
    wide = [one.name for one in kernels]
    return copied_from(wide), len(wide)


@pytest.mark.gpu
def test_batches_in_pinned_memory_are_copied_from_there(framework):
    device = torch.device("cuda", 0)
    pinned, count = copies_of(framework, device, loader(device))
    assert "Pinned" in pinned
    pageable, _ = copies_of(framework, device, loader(torch.device("cpu")))
    assert "Pinned" not in pageable  # the control
    assert count >= 2 * 2 * len(loader(device))  # two tensors a batch, in two epochs


@pytest.mark.gpu
def test_a_resumed_loader_still_pins(framework, tmp_path):
    """In the epoch that a run goes on with, its own loader is read through another one."""
    device = torch.device("cuda", 0)

    def save(made):
        made.on(Event.BATCH_END(once=2), lambda run: run.save_checkpoint(tmp_path / "run.ckpt"))

    copies_of(framework, device, loader(device), act=save)
    kinds, _ = copies_of(
        framework,
        device,
        loader(device),
        path=tmp_path / "run.ckpt",
        act=lambda made: made.on(Event.BATCH_END(once=3), lambda run: run.stop()),
    )
    assert "Pinned" in kinds
