"""The plain path of a bridge, as a switch for tests: each call is made that the short way leaves out.

A LightningModule's step goes through all of Lightning's functions, and Lightning's loop gets each batch of an Ignite
program for itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def plain_path() -> Iterator[None]:
    """Take it wherever a bridge runs meanwhile."""
    from unitrain_bridges.lightning.trainer import StandInTrainer
    from unitrain_lightning import adapter

    with patch.object(StandInTrainer, "short_way", False), patch.object(adapter, "may_batch_steps", lambda *_: False):
        yield
