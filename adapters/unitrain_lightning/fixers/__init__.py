"""What ``unitrain migrate`` knows of Lightning's scripts. Nothing here imports Lightning: a migration runs without it."""

from __future__ import annotations

from typing import Final

from unitrain.migrate import torch_names
from unitrain.migrate.findings import Family
from unitrain_lightning.fixers import epoch_ends, hooks, modules, moved, trainer, trainer_arguments
from unitrain_lightning.fixers.names import PACKAGES

FAMILY: Final = Family(
    trainer.FRAMEWORK,
    PACKAGES,
    upgrades=(
        moved.FIXER,
        trainer_arguments.FIXER,
        modules.RESUME_FIXER,
        modules.ARGPARSE_FIXER,
        modules.FIXER,
        hooks.FIXER,
        epoch_ends.FIXER,
        torch_names.FIXER,
    ),
    conversions=(trainer.FIXER,),
)
