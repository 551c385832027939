"""The checks of ``unitrain migrate --check-backend``: what a bridge refuses, from the bridge's own tables."""

from __future__ import annotations

from typing import Final

from unitrain.migrate.findings import Family
from unitrain_bridges.fixers import engines, modules

FAMILY: Final = Family("", (*modules.PACKAGES, *engines.PACKAGES), checks=(modules.FIXER, engines.FIXER))
