"""What is known of a model that is being packed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.bundle.contracts import Contract
    from unitrain.deployment.bundle.packages import Package
    from unitrain.serving.signature import Signature

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The release that has tried the model, and that the image is made from."""


@dataclass(frozen=True)
class Card:
    """What the file does not say of a model.

    Attributes:
        licence: An SPDX expression, such as ``"Apache-2.0"``.
        data: On which data it was trained.
        metrics: What it reached, by name.
        training: How it was trained, as far as a trainer knows.
    """

    licence: str | None = None
    data: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a model.

    Attributes:
        name: Under which it is served.
        contract: Of the platform that the bundle is for.
        file: Its path in the bundle.
        format: Of the file.
        sha256: Of the file.
        signature: Its inputs and outputs.
        metadata: What the file says of itself; empty for a file of another program.
        packages: What serves it.
        card: What was told of it.
    """

    name: str
    contract: Contract
    file: str
    format: str
    sha256: str
    signature: Signature
    metadata: Mapping[str, Any]
    packages: tuple[Package, ...]
    card: Card

    def versions(self) -> dict[str, Any]:
        """Return the releases that serve the model, and the one of torch that wrote it."""
        trained = {"torch": self.metadata["torch"]} if "torch" in self.metadata else {}
        packages = {one.name: one.version for one in self.packages}
        return {"python": PYTHON, "unitrain": __version__, "packages": packages, "exported_by": trained}
