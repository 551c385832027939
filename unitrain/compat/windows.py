"""Which releases of which package are supported: one table for ``unitrain doctor`` and all other checks."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

from unitrain.compat.blocked import advisory, installed, parsed
from unitrain.errors import VersionError


class Standing(StrEnum):
    """The support status of a release."""

    SUPPORTED = "supported"
    BEST_EFFORT = "best effort"
    OUTSIDE = "outside"
    DANGEROUS = "dangerous"


class Window(NamedTuple):
    """The releases of one package.

    Attributes:
        supported: Tested releases that need no shim.
        best_effort: Releases that work through shims; empty if there are none.
        outside: Why older ones do not work, if there is more to say than that nobody tried.
    """

    supported: str
    best_effort: str = ""
    outside: str = ""

    def standing(self, package: str, version: str) -> Standing:
        """Return the support status of ``version``; a suffix, such as that of a source build, does not matter."""
        release = parsed(version)
        if advisory(package, version) is not None:
            return Standing.DANGEROUS
        if release is None:
            return Standing.OUTSIDE
        base = release.base_version
        if base in SpecifierSet(self.supported):
            return Standing.SUPPORTED
        return Standing.BEST_EFFORT if self.best_effort and base in SpecifierSet(self.best_effort) else Standing.OUTSIDE


_LIGHTNING = ">=2.4,!=2.6.2,!=2.6.3"
_BEFORE_2_4 = "Lightning below 2.4 imports pkg_resources, which setuptools 82 removed: pip install 'setuptools<82'."

WINDOWS: dict[str, Window] = {
    "python": Window(">=3.11"),
    "torch": Window(">=2.4"),
    "pytorch-lightning": Window(_LIGHTNING, ">=2.0,<2.4", "Lightning 1 has different loops and arguments."),
    "lightning": Window(_LIGHTNING, outside=_BEFORE_2_4),
    "pytorch-ignite": Window(">=0.5.2", ">=0.4.12,<0.5.2", "pytorch-ignite below 0.4.12 requires torch 1."),
    "torchmetrics": Window(">=1.0", ">=0.11.4,<1.0", "before 0.11 metrics have no task=."),
    "optuna": Window(">=4.0", ">=3.1,<4.0", "before 3.1 there is no JournalStorage."),
    "mlflow": Window(">=2.14"),
    "packaging": Window(">=24.2"),
    "rich": Window(">=13"),
}
"""Support windows by distribution name; any other version is unsupported."""


def standing(package: str, version: str) -> Standing:
    """Return the support status of ``version`` of ``package``.

    Raises:
        KeyError: If the table has no such package.
    """
    return WINDOWS[package].standing(package, version)


def refuse_outside(package: str) -> None:
    """Refuse an installed release outside the supported window, before it is imported.

    Raises:
        VersionError: If it is; the message lists installed and accepted releases.
    """
    found, window = next(iter(installed(package)), None), WINDOWS[package]
    if found is None or standing(package, found) is not Standing.OUTSIDE:
        return
    accepted = " or ".join(filter(None, (window.supported, window.best_effort)))
    raise VersionError(
        f"{package} {found} is installed; supported: {accepted}. {window.outside}".rstrip(),
        hint=f"pip install --upgrade '{package}{window.supported}'",
    )
