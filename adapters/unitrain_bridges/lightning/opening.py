"""Makes a backend's run for a fit or an evaluation of a LightningModule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from unitrain.backends.protocol import Adapter, Run
    from unitrain.config import TrainerConfig


@dataclass(frozen=True)
class Opening:
    """The callable that a stand-in uses for a run; a class, because a Trainer can be pickled.

    Attributes:
        adapter: The backend of the run.
        config: UnifiedTrainer's options.
        callbacks: The backend's own.
    """

    adapter: Adapter
    config: TrainerConfig
    callbacks: tuple[Any, ...] = ()

    def __call__(self, device: torch.device) -> Run:
        """Return a run on ``device``."""
        return self.adapter.build(self.config, device, self.callbacks)
