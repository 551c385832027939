"""The rules of ``unitrain migrate`` for Optuna scripts. Nothing here imports Optuna."""

from __future__ import annotations

from typing import Final

from unitrain.migrate.findings import Family
from unitrain.migrate.optuna import integrations, journals, redis_storages, suggestions

FAMILY: Final = Family(
    "",
    ("optuna",),
    upgrades=(
        suggestions.FIXER,
        redis_storages.FIXER,
        journals.FIXER,
        integrations.FIXER,
        integrations.CALLBACK_FIXER,
    ),
)
