"""Runs LightningModules on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.redirect import redirected
from unitrain_bridges.lightning.sessions import LightningSession

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.protocol import Adapter


class LightningBridge:
    """Opens sessions for LightningModules of either package."""

    home: ClassVar[str] = HOME

    def open(self, adapter: Adapter, config: TrainerConfig) -> LightningSession:
        """Return what runs a LightningModule on ``adapter``."""
        return LightningSession(adapter, config)

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:  # noqa: ARG002 - one signature
        """Return None: Lightning's callbacks run on Lightning only."""
        return None

    def redirected(self, framework: str) -> AbstractContextManager[None]:
        """Let scripts that are run meanwhile, as they are, train on ``framework``."""
        return redirected(framework)
