"""Optuna scripts: suggestions, Redis storages and integrations as Optuna has them today. Nothing imports Optuna."""

from __future__ import annotations

from typing import Final

from unitrain.migrate.findings import Family
from unitrain.migrate.optuna import integrations, redis_storages, suggestions

FAMILY: Final = Family(
    "", ("optuna",), upgrades=(suggestions.FIXER, redis_storages.FIXER, integrations.FIXER, integrations.CALLBACK_FIXER)
)
