"""The token of a deployment, of which only a salted hash is written."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Final

from unitrain.serving.options import TOKEN_VARIABLE

_ROUNDS: Final = 10_000


def token() -> str:
    """Return the token of the environment, or an empty text."""
    return os.environ.get(TOKEN_VARIABLE, "").strip()


def salted(salt: str | None = None) -> str:
    """Return the hash of the token of the environment with its salt, or an empty text if there is none."""
    if not token():
        return ""
    used = secrets.token_hex(8) if salt is None else salt
    return f"{used}:{hashlib.pbkdf2_hmac('sha256', token().encode(), used.encode(), _ROUNDS).hex()}"


def is_same(told: str) -> bool:
    """Return whether the token of the environment is the one whose hash was told."""
    return salted(told.partition(":")[0]) == told
