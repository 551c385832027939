"""Names that every platform accepts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError

if TYPE_CHECKING:
    from pathlib import Path

LONGEST: Final = 40
"""SageMaker and Kubernetes accept 63 characters; deploying adds ``unitrain-``, a hash, and KServe its own endings."""

_NAME: Final = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9]))*")
_OTHERS: Final = re.compile(r"[^a-z0-9]+")
_DEFAULT: Final = "model"


def require_name(given: Any) -> str:
    """Return a name.

    Raises:
        DeployError: If a platform would refuse it.
    """
    if not isinstance(given, str) or len(given) > LONGEST or not _NAME.fullmatch(given):
        raise DeployError(
            f"name= must be lower-case letters, digits and single hyphens, a letter first, at most {LONGEST} of them;"
            f" got {given!r:.80}.",
            hint=f"name={name_from(str(given))!r}",
        )
    return given


def name_of(path: Path) -> str:
    """Return a name for the model in a file."""
    return name_from(path.stem)


def name_from(text: str) -> str:
    """Return the accepted name that is nearest to ``text``."""
    words = _OTHERS.sub("-", text.lower()).strip("-").lstrip("0123456789-")
    return words[:LONGEST].rstrip("-") or _DEFAULT
