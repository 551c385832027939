"""The manifest of a bundle: the checksum of each file, and what an entry point has to know."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.bundle.contracts import require_target
from unitrain.deployment.bundle.form import FORM, fits
from unitrain.deployment.bundle.names import require_name
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST: Final = "manifest.json"
ARCHIVE: Final = "model.tar.gz"
"""The archive in the folder of a bundle; the manifest does not list it, since it holds the manifest."""
SERVE: Final = "serve"
"""The entry point."""
FORMAT: Final = 1
LARGEST: Final = 2**24
"""Bytes of a manifest."""

_PART: Final = re.compile(r"[A-Za-z0-9_.-]+")
_MOST_FILES: Final = 10_000
_LONGEST_PATH: Final = 100
"""Characters that the header of a tar has for a name."""


def text_of(manifest: Mapping[str, Any]) -> bytes:
    """Return the only text that a manifest has."""
    return json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def digest_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest, and so of all that it lists."""
    return hashlib.sha256(text_of(manifest)).hexdigest()


def refuse_path(name: str) -> str | None:
    """Return why ``name`` is not the path of a file within a bundle, or None if it is."""
    parts = name.split("/")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "it is absolute"
    if ".." in parts:
        return "it leads out of the folder"
    if len(name) > _LONGEST_PATH or not all(_PART.fullmatch(one) and one != "." for one in parts):
        return "no file of a bundle has such a name"
    return None


def parsed(text: bytes) -> dict[str, Any]:
    """Return the manifest of a text.

    Raises:
        DeployError: If ``bundle()`` did not write it.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _foreign(f"it is not JSON: {error}") from error
    if not isinstance(found, dict) or "format" not in found:
        raise _foreign("it has no format")
    if found["format"] != FORMAT:
        raise DeployError(
            f"the bundle has the format {found['format']!r:.20}; this release reads {FORMAT}.",
            hint="use the release of unitrain that wrote it, or write it again.",
        )
    wrong = [key for key in FORM if not fits(found.get(key), FORM[key])] or sorted(found.keys() - FORM.keys())
    if wrong:
        raise _foreign(f"its {wrong[0]!r:.40} is not what it should be")
    require_name(found["name"])
    require_target(found["target"])
    _require_files(found)
    if not _is_text_of(found, text):
        raise _foreign("it was edited")
    return found


def _is_text_of(found: Mapping[str, Any], text: bytes) -> bool:
    try:
        return text_of(found) == text
    except (ValueError, RecursionError):  # NaN, or deeper than it can be written
        return False


def _require_files(found: Mapping[str, Any]) -> None:
    files, model = found["files"], found["model"]["file"]
    if not 0 < len(files) <= _MOST_FILES:
        raise _foreign(f"it lists {len(files)} files")
    for name in files:
        reason = refuse_path(name)
        if reason is not None:
            raise DeployError(f"{MANIFEST} lists {name!r:.80}: {reason}.", hint="write the bundle again.")
    _require_apart(list(files))
    if model not in files or files[model]["sha256"] != found["model"]["sha256"]:
        raise _foreign("its model is not among its files")


def _require_apart(names: list[str]) -> None:
    """Refuse files that would be one on some file system, or a file and a folder at once."""
    lower = [one.lower() for one in names]
    folders = {str(parent) for one in lower for parent in PurePosixPath(one).parents}
    taken = {*folders, MANIFEST, ARCHIVE}
    if len(set(lower)) < len(lower) or taken & set(lower):
        raise _foreign("two of its files have one name")


def _foreign(reason: str) -> DeployError:
    return DeployError(
        f"{MANIFEST} was not written by unitrain.bundle(): {reason[:200]}.", hint="write the bundle again."
    )
