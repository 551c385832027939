"""What ``unitrain migrate --check-backend`` knows: what a bridge would refuse, from the tables that it refuses by."""

from __future__ import annotations

from typing import Final

from unitrain.migrate.findings import Family
from unitrain_bridges.fixers import engines, modules

FAMILY: Final = Family("", (*modules.PACKAGES, *engines.PACKAGES), checks=(modules.FIXER, engines.FIXER))
