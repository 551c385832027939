"""What the tests of foreign callbacks share."""

from __future__ import annotations

import torch

from unitrain import UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import batches, loader


class NoLength:
    """Batches without a length."""

    def __iter__(self):
        return iter(batches())


def fit(framework, callbacks, train=loader, val=loader, ckpt_path=None, make=spec, **options):
    """Return the trainer, the result and the weights of a fit with ``callbacks``."""
    torch.manual_seed(3)
    made = make()
    options = {"max_epochs": 3, "seed": 1, "enable_progress_bar": False, **options}
    trainer = UnifiedTrainer(framework, callbacks=callbacks, **options)
    result = trainer.fit(made, train(), None if val is None else val(), ckpt_path=ckpt_path)
    return trainer, result, made.model.state_dict()


def equal(left, right):
    """Say whether two values are the same, tensors to the bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and left == right
