"""Makes the page: one HTML text that holds its style, its script and the signature of each model."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FOLDER = Path(__file__).parent
_MARKUP = "<>&"
"""What could end the script that holds the signatures; JSON has other ways to write it."""


def page(models: Sequence[Mapping[str, Any]], *, version: str) -> str:
    """Return the page.

    Args:
        models: Descriptions of the models, as ``/models`` returns them. If there are none, the page asks ``/models``
            for them, with the token that a person enters.
        version: The version of unitrain.
    """
    style = _read("page.css")
    script = "\n".join(["(() => {", *map(_read, ("page.js", "live.js")), "})();"])
    told = [{**_sayable(one), "example": _texts(one.get("example"))} for one in models]
    signature = json.dumps({"models": told, "version": version}, allow_nan=False)  # all of it ASCII
    for character in _MARKUP:
        signature = signature.replace(character, f"\\u{ord(character):04x}")
    parts = {"style": style, "script": script, "signature": signature, "policy": _policy(style, script)}
    return Template(_read("page.html")).substitute(parts)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """Return a content security policy: nothing runs but this script, and nothing is loaded from elsewhere."""
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _texts(example: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return the example as JSON texts: a script's numbers hold no integer beyond 2**53."""
    return {name: json.dumps(row) for name, row in example.items()} if example else None


def _sayable(value: Any) -> Any:
    """Return what JSON can say: a metric may be NaN, which is told as a text."""
    if hasattr(value, "items"):
        return {str(key): _sayable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sayable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
