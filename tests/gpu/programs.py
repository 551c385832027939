"""Programs that ``unitrain.compare`` runs on a device; its sides import them."""

from __future__ import annotations

import torch

from tests.gpu.training import spec
from unitrain.testing.models import loader


def cnn():
    """Return a convolution net with batch norm."""
    return spec("cnn"), loader()


def transformer():
    """Return a transformer, whose dropout draws on the device."""
    return spec("transformer"), loader()


def transformer_after_a_draw():
    """Return the same, but its first step draws once more on the device, from the generator that dropout uses."""
    own, data = transformer()
    drawn = []

    def hook(_, inputs):
        if not drawn:
            drawn.append(torch.rand(1, device=inputs[0].device))

    own.model.register_forward_pre_hook(hook)
    return own, data
