"""The rules of ``unitrain migrate`` for Ignite scripts. Nothing here imports Ignite, so a migration runs without it."""

from __future__ import annotations

from typing import Final

from unitrain.migrate import torch_names
from unitrain.migrate.findings import Family
from unitrain_ignite.fixers import keywords, moved, runs

FAMILY: Final = Family(
    runs.FRAMEWORK,
    ("ignite",),
    upgrades=(moved.FIXER, keywords.FIXER, runs.SEED_FIXER, torch_names.FIXER),
    conversions=(runs.FIXER,),
)
