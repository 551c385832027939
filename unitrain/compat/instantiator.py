"""Detects files that make Lightning before 2.6.6 import code (CVE-2026-58659), without running them."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from packaging.version import Version

from unitrain.compat.differences import difference
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = "_instantiator"
FIXED_IN = "2.6.6"
"""The first Lightning release that does not import names from a checkpoint."""

_PICKLES = 4
"""A file from torch before 1.6 starts with three small pickles; the fourth is the content."""

_OF_A_FOLDER = "meta.pt"
"""Where a sharded Lightning checkpoint stores its hyper-parameters."""


@difference(
    "pytorch-lightning",
    since=FIXED_IN,
    drop=FIXED_IN,
    link="https://nvd.nist.gov/vuln/detail/CVE-2026-58659",
)
def refuse_instantiator(given: Any, release: str) -> None:
    """Refuse to pass a file with the hyper-parameter ``_instantiator`` to a Lightning that imports its value.

    Args:
        given: The given checkpoint; only local files and folders are checked.
        release: The Lightning release.

    Raises:
        CheckpointError: If it is such a file; the hint names alternatives.
    """
    if Version(release) >= Version(FIXED_IN) or not isinstance(given, (str, Path)):
        return
    path = Path(given) / _OF_A_FOLDER if Path(given).is_dir() else Path(given)
    if path.is_file() and any(text == _KEY for text in _texts(path)):
        raise CheckpointError(
            f"{given} contains the hyper-parameter {_KEY!r}, which names code that Lightning {release} would import"
            f" (CVE-2026-58659).",
            hint=f"pip install 'pytorch-lightning>={FIXED_IN}'; or `unitrain convert SRC DST --to lightning`, which"
            f" removes it.",
        )


def _texts(path: Path) -> Iterator[Any]:
    """Yield the strings in the pickles of a torch file; nothing for other files, which torch refuses."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        with archive.open(name) as file:
                            yield from _arguments(file)
        else:
            with path.open("rb") as file:
                for _ in range(_PICKLES):
                    yield from _arguments(file)
    except (ValueError, zipfile.BadZipFile):
        return


def _arguments(file: IO[bytes]) -> Iterator[Any]:
    for _, argument, _ in pickletools.genops(file):
        yield argument
