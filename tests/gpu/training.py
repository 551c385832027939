"""What the tests of the GPU tier train: options, data in pinned memory, and the loop by hand on a device."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import TrainSpec, UnifiedTrainer
from unitrain.testing.models import BATCH, MODELS, SAMPLES, tensors
from unitrain.testing.trace import SEED

if TYPE_CHECKING:
    from unitrain.testing.trace import Case

EPOCHS = 2
LR = 0.05


def options(device: torch.device, **changes: Any) -> dict[str, Any]:
    """Return arguments of a trainer for a run on ``device`` whose bits can be repeated."""
    base = {"accelerator": device.type, "max_epochs": EPOCHS, "seed": SEED, "deterministic": True}
    return {**base, "enable_progress_bar": False, **changes}


def on(device: torch.device, case: Case, **changes: Any) -> dict[str, Any]:
    """Return the options of ``case`` for a run on ``device``."""
    return {**case.options, "accelerator": device.type, "deterministic": True, **changes}


def trainer(framework: str, device: torch.device, **changes: Any) -> UnifiedTrainer:
    """Return a trainer for ``device``."""
    return UnifiedTrainer(framework, **options(device, **changes))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all runs."""
    return torch.optim.SGD(parameters, lr=LR, momentum=0.9)


def seeded(model: str) -> nn.Module:
    """Return a model of the conformance suite, always with the same weights."""
    torch.manual_seed(SEED)
    return MODELS[model]()


def spec(model: str = "mlp", **changes: Any) -> TrainSpec:
    """Return a classification."""
    return TrainSpec(**{"model": seeded(model), "loss": nn.CrossEntropyLoss(), "optimizer": sgd, **changes})


def loader(device: torch.device, *, shuffle: bool = True) -> DataLoader[Any]:
    """Return the samples of the conformance suite; in pinned memory if they go to a GPU."""
    return DataLoader(TensorDataset(*tensors(SAMPLES)), BATCH, shuffle=shuffle, pin_memory=device.type == "cuda")


def by_hand(model: nn.Module, device: torch.device, precision: str, clip: float | None = None) -> list[float]:
    """Train as a person does on a device, with autocast and a scaler as ``precision`` says; return the scales."""
    mixed = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(precision)
    # unitrain and Lightning do not keep cast weights: those of a weight that is used twice would be added otherwise
    autocast = partial(torch.autocast, device.type, dtype=mixed, cache_enabled=False) if mixed else nullcontext
    torch.manual_seed(SEED)
    model.to(device)
    optimizer, loss_of, scales = sgd(model.parameters()), nn.CrossEntropyLoss(), []
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")
    for _ in range(EPOCHS):
        for inputs, target in loader(device):
            optimizer.zero_grad()
            with autocast():
                loss = loss_of(model(inputs.to(device)), target.to(device))
            scaler.scale(loss).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
    return scales
