"""Saves and restores train and eval modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class ModuleModes:
    """The train or eval mode of each part of a model, to be restored after an evaluation.

    Args:
        model: The model to put into eval mode.
    """

    def __init__(self, model: nn.Module) -> None:
        self._training = [module for module in model.modules() if module.training]
        self._model = model
        model.eval()

    def restore(self) -> None:
        """Restore the mode of each module."""
        for module in self._training:
            module.training = True
