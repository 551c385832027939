"""Run by torchrun on each process: what a device changes with several processes, beside the same by hand.

usage: processes.py FOLDER WHAT DEVICE; writes FOLDER/<rank>.json, what differs for each backend (an empty list: nothing)

With ``cuda`` each process has a GPU of its own and nccl. With ``shared`` all share the first GPU, and gloo exchanges: nccl
refuses that.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tests.gpu.training import EPOCHS, sgd
from unitrain import FSDP, TrainSpec, UnifiedTrainer
from unitrain.distributed.collectives import Collectives
from unitrain.distributed.launch import process_group
from unitrain.distributed.strategies.ddp import Replica
from unitrain.distributed.strategies.fsdp import Sharded, ShardedStep
from unitrain.testing.models import BATCH, tensors
from unitrain.testing.trace import SEED, differences

FRAMEWORKS = ("reference", "ignite", "lightning")
SAMPLES = 32


def network() -> nn.Module:
    """Return a net with batch norm."""
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(36, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5))


def device_of(kind: str) -> torch.device:
    """Return the device of this process."""
    if kind == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", 0 if kind == "shared" else int(os.environ["LOCAL_RANK"]))


def by_hand(device: torch.device, *, synchronized: bool) -> dict[str, Any]:
    """Train with DDP by a loop of torch alone."""
    model = network().to(device)
    if synchronized:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    parallel = DistributedDataParallel(model)
    optimizer, loss_of = sgd(model.parameters()), nn.CrossEntropyLoss()
    data = TensorDataset(*tensors(SAMPLES))
    sampler = DistributedSampler(data, seed=SEED)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for inputs, target in DataLoader(data, BATCH, sampler=sampler):
            optimizer.zero_grad()
            loss_of(parallel(inputs.to(device)), target.to(device)).backward()
            optimizer.step()
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)
    return model.state_dict()


def by_unitrain(framework: str, kind: str, **options: Any) -> dict[str, Any]:
    """Train with unitrain."""
    size = int(os.environ["WORLD_SIZE"])
    devices = [0] * size if kind == "shared" else size
    accelerator = "cpu" if kind == "cpu" else "cuda"
    base = {"max_epochs": EPOCHS, "seed": SEED, "enable_progress_bar": False, "deterministic": True}
    trainer = UnifiedTrainer(framework, accelerator=accelerator, devices=devices, **{**base, **options})
    spec = TrainSpec(model=network(), loss=nn.CrossEntropyLoss(), optimizer=sgd)
    trainer.fit(spec, DataLoader(TensorDataset(*tensors(SAMPLES)), BATCH, shuffle=True))
    return spec.model.state_dict()


def ddp(kind: str, *, synchronized: bool) -> dict[str, list[str]]:
    """Return how each backend differs from the loop by hand."""
    found, device = {}, device_of(kind)
    for framework in FRAMEWORKS:
        weights = by_unitrain(framework, kind, strategy="ddp", sync_batchnorm=synchronized)
        torch.use_deterministic_algorithms(mode=True)
        expected = by_hand(device, synchronized=synchronized)
        torch.use_deterministic_algorithms(mode=False)
        found[framework] = differences(dict(expected), dict(weights))
        if synchronized:  # the control
            found[f"{framework}, noticed"] = (
                [] if differences(by_hand(device, synchronized=False), expected) else ["not"]
            )
    return found


def fsdp(kind: str) -> dict[str, list[str]]:
    """Return how each backend differs from DDP, with which FSDP has the same bits on two processes."""
    found = {}
    for framework in FRAMEWORKS:
        if framework == "reference":
            continue
        whole = by_unitrain(framework, kind, strategy="ddp")
        parts = by_unitrain(framework, kind, strategy="fsdp")
        found[framework] = differences(dict(whole), dict(parts))
    return found


def alone(kind: str) -> dict[str, list[str]]:
    """Return how unitrain's wrappers differ from a plain step, in a group of one process, over the device's own backend.

    A fit in one process has no group; so one GPU is enough to run the parts that two processes would.
    """
    device = device_of(kind)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(process_group._BACKENDS.get(device.type, "gloo"))
    init_device_mesh(device.type, (1,))
    inputs, target = (one[:BATCH].to(device) for one in tensors())
    loss_of, found = nn.CrossEntropyLoss(), {}

    def step(model: nn.Module, wrapped: Any, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            wrapped(inputs, target).backward()
            optimizer.step()

    plain = network().to(device)
    step(plain, lambda x, y: loss_of(plain(x), y), sgd(plain.parameters()))

    model = network().to(device)
    step(model, Replica(model, lambda x, y: loss_of(model(x), y), {}).forward, sgd(model.parameters()))
    found["ddp"] = differences(dict(plain.state_dict()), dict(model.state_dict()))

    model = network().to(device)
    sharded = Sharded(model, FSDP(wrap=(nn.Linear,)), {}, device, Alone())
    optimizer = sgd(model.parameters())
    sharded.optimizers = {"optimizer": optimizer}
    step(model, ShardedStep(sharded, lambda x, y: loss_of(model(x), y)).forward, optimizer)
    sharded.dissolve(())
    found["fsdp"] = differences(dict(plain.state_dict()), dict(model.state_dict()))
    return found


class Alone(Collectives):
    """A group of one process, whose exchanges are real ones."""

    def broadcast(self, tensors: Any) -> None:
        """Broadcast over torch's group."""
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


WHAT = {
    "ddp": lambda kind: ddp(kind, synchronized=False),
    "sync_batchnorm": lambda kind: ddp(kind, synchronized=True),
    "fsdp": fsdp,
    "alone": alone,
}


def main(folder: str, what: str, kind: str) -> None:
    """Run one of ``WHAT``, and leave what differs."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if kind == "shared":
        process_group._BACKENDS["cuda"] = "gloo"
    found = WHAT[what](kind)
    backend = str(dist.get_backend_config())
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps({"differ": found, "backend": backend}))


if __name__ == "__main__":
    main(*sys.argv[1:])
