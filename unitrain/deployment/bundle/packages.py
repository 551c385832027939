"""The packages that serve a model, with exact versions: those that are installed here, where the model was tried."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from unitrain.errors import DeployError, install_hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SERVICE: Final = ("httptools", "numpy", "orjson", "prometheus-client", "uvicorn")
_FASTER: Final = ("uvloop",)
"""Taken along where they are installed; Windows has no uvloop."""
_RUNTIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "onnx": ("onnxruntime",),
    "torch_export": ("torch",),
    "torchscript": ("torch",),
    "aoti": ("torch",),
}


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes:
        name: As the package index has it.
        version: Without a local part: indexes have ``2.13.0``, not ``2.13.0+cpu``.
        licence: Its SPDX expression, or None if it has none.
        needs: The names of the packages that it needs here.
    """

    name: str
    version: str
    licence: str | None
    needs: tuple[str, ...]


def packages_for(format: str) -> tuple[Package, ...]:  # noqa: A002 - as everyone calls it
    """Return the packages that serve a file of ``format``, with all that they need, by name.

    Raises:
        DeployError: If one is not installed.
    """
    wanted = [*_SERVICE, *(one for one in _FASTER if _is_installed(one)), *_RUNTIMES[format]]
    found: dict[str, Package] = {}
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in found:
            found[name] = _package(name)
            wanted += found[name].needs
    return tuple(found[name] for name in sorted(found))


def _package(name: str) -> Package:
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        hint = install_hint("serve") if name in _SERVICE else f"pip install {name}"
        raise DeployError(f"a bundle needs {name}, which is not installed.", hint=hint) from None
    version = installed.version.partition("+")[0]
    licences = installed.metadata.get_all("License-Expression") or [None]
    return Package(name, version, licences[0], tuple(_needs(installed)))


def _needs(installed: Distribution) -> Iterable[str]:
    """Yield what a package needs on this machine without any extra."""
    given = map(Requirement, installed.requires or ())
    names = (canonicalize_name(one.name) for one in given if one.marker is None or one.marker.evaluate({"extra": ""}))
    return sorted(set(names))


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def different(versions: Mapping[str, str]) -> list[str]:
    """Return those of ``versions`` that this Python does not have, each with what it has."""
    found = []
    for name, version in versions.items():
        installed = distribution(name).version.partition("+")[0] if _is_installed(name) else "nothing"
        if installed != version:
            found.append(f"{name}=={version} (installed: {installed})")
    return found
