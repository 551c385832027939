"""The rules of ``unitrain migrate`` for Lightning scripts. Nothing here imports Lightning."""

from __future__ import annotations

from typing import Final

from unitrain.migrate import torch_names
from unitrain.migrate.findings import Family
from unitrain_lightning.fixers import (
    argparse_helpers,
    attributes,
    callback_arguments,
    configs,
    epoch_ends,
    hooks,
    modules,
    moved,
    resume_argument,
    trainer,
    trainer_arguments,
)
from unitrain_lightning.fixers.names import PACKAGES

FAMILY: Final = Family(
    trainer.FRAMEWORK,
    PACKAGES,
    upgrades=(
        moved.FIXER,
        argparse_helpers.FIXER,
        trainer_arguments.FIXER,
        callback_arguments.FIXER,
        resume_argument.FIXER,
        modules.FIXER,
        attributes.FIXER,
        hooks.FIXER,
        epoch_ends.FIXER,
        torch_names.FIXER,
    ),
    conversions=(configs.FIXER, trainer.FIXER),
)
