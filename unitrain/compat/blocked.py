"""Known malicious releases, detected from package metadata and never imported."""

from __future__ import annotations

import warnings
from importlib.metadata import distributions
from typing import TYPE_CHECKING, NamedTuple

from packaging.version import InvalidVersion, Version

from unitrain.errors import VersionError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Blocked(NamedTuple):
    """A malicious upload.

    Attributes:
        releases: The malicious releases, also with a suffix (``2.6.2+cpu``, ``2.6.2.dev1``).
        advisory: Source of the advisory.
    """

    releases: frozenset[str]
    advisory: str


_LIGHTNING = Blocked(frozenset({"2.6.2", "2.6.3"}), "GHSA-w37p-236h-pfx3, CVE-2026-44484")
BLOCKED: dict[str, Blocked] = {"pytorch-lightning": _LIGHTNING, "lightning": _LIGHTNING}
"""Keyed by distribution name."""

UPGRADE = "pip install --upgrade 'pytorch-lightning>=2.4,!=2.6.2,!=2.6.3' 'lightning>=2.4,!=2.6.2,!=2.6.3'"


def installed(distribution: str) -> list[str]:
    """Return the releases of ``distribution`` on the path, in Python's order; nothing is imported."""
    found = (one.metadata.get_all("Version", []) for one in distributions(name=distribution))
    return [version for versions in found for version in versions if version]


def parsed(version: str) -> Version | None:
    """Return ``version`` parsed, or None if it is invalid."""
    try:
        return Version(version)
    except InvalidVersion:
        return None


def advisory(distribution: str, version: str) -> str | None:
    """Return the advisory on a malicious release, or None."""
    known, release = BLOCKED.get(distribution), parsed(version)
    if known is None or release is None or release.base_version not in known.releases:
        return None
    return known.advisory


def dangerous() -> Iterator[tuple[str, str, str]]:
    """Yield each malicious release on the path, its version and the advisory."""
    for distribution in BLOCKED:
        for version in installed(distribution):
            told = advisory(distribution, version)
            if told is not None:
                yield distribution, version, told


def check_blocked() -> None:
    """Raise before an import of Lightning if a malicious release of it is on the path.

    Raises:
        VersionError: If there is one, under either name, even after a good one: its ``.pth`` file could run.
    """
    for distribution, version, told in dangerous():
        raise VersionError(
            f"{distribution} {version} is a malicious upload ({told}); unitrain refuses to import it.",
            hint=f"assume that secrets on this machine are stolen and replace them, then {UPGRADE}",
        )


def mismatch() -> tuple[str, str] | None:
    """Return the releases of pytorch-lightning and lightning if both are installed and differ (but for suffixes)."""
    first = [next(iter(installed(name)), None) for name in ("pytorch-lightning", "lightning")]
    one, other = first
    if one is None or other is None:
        return None
    left, right = parsed(one), parsed(other)
    same = one == other if left is None or right is None else left.public == right.public
    return None if same else (one, other)


def aligned(found: tuple[str, str]) -> str:
    """Return the command that installs the newer release of both packages."""
    known = [version for version in map(parsed, found) if version is not None]
    release = max(known).base_version if known else ""
    pin = f"=={release}" if release and not advisory("lightning", release) else ">=2.6.6"
    return f"pip install 'pytorch-lightning{pin}' 'lightning{pin}'"


def warn_mismatch() -> None:
    """Warn if the two Lightning packages have different releases; ``lightning`` does not pin the other one."""
    found = mismatch()
    if found is not None:
        warnings.warn(
            f"pytorch-lightning {found[0]} and lightning {found[1]} are both installed; they are different versions"
            f" of the same framework.\nHint: {aligned(found)}",
            stacklevel=2,
        )
