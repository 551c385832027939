"""Runs LightningModules on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unitrain_bridges.lightning.callbacks import LightningCallback, refuse_named
from unitrain_bridges.lightning.cli_files import is_cli_file, run_cli_files
from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.redirect import redirected
from unitrain_bridges.lightning.sessions import LightningSession
from unitrain_bridges.lightning.upgrading import unchanged, upgraded
from unitrain_lightning.adapter import LightningAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from unitrain.backends.foreign import FrameworkFiles
    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig


class LightningBridge:
    """Opens sessions for LightningModules of either package."""

    home: ClassVar[str] = HOME
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]] = {"1.x": upgraded, "2.x": unchanged}

    def open(self, adapter: Adapter, config: TrainerConfig) -> LightningSession:
        """Return the session that runs a LightningModule on ``adapter``."""
        return LightningSession(adapter, config)

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:
        """Wrap a Lightning callback in a unitrain callback; None if it is not one.

        Raises:
            UnsupportedFeatureError: If it works in Lightning's own loops only.
        """
        if not LightningAdapter().accepts_callback(native):
            return None
        refuse_named(native, adapter.name)
        return LightningCallback(native, adapter.name)

    def redirected(self, framework: str) -> AbstractContextManager[None]:
        """Let scripts that are run meanwhile, unchanged, train on ``framework``."""
        return redirected(framework)

    def reads(self, contents: Mapping[str, Any]) -> bool:
        """Return whether a file with these contents is one of LightningCLI."""
        return is_cli_file(contents)

    def run_files(self, files: FrameworkFiles, framework: str) -> Any:
        """Run files of LightningCLI on ``framework``.

        Raises:
            UnitrainError: If a file is invalid, or needs what the backend does not support.
        """
        return run_cli_files(files, framework)
