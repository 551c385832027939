"""Checks the installation from package metadata, without importing a framework, which may be malicious."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, entry_points, metadata, requires
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from unitrain.cli.doctor.findings import Accelerator, Backend, Extra, Finding, Level, Package, Report
from unitrain.compat import blocked
from unitrain.compat.instantiator import FIXED_IN
from unitrain.compat.windows import WINDOWS, Standing, standing
from unitrain.errors import DISTRIBUTION, install_hint
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = "missing"
_ALL = "all"


def examine() -> Report:
    """Check installed packages and devices."""
    packages = [_package(name) for name in WINDOWS]
    registered = backends()
    accelerators = _accelerators()
    findings = [
        *_of_packages(packages),
        *_of_lightning(),
        *_of_backends(registered),
        *_of_devices(accelerators),
        *_of_torchvision(),
    ]
    return Report(__version__, packages, registered, accelerators, _extras(), findings)


def backends() -> list[Backend]:
    """Return the registered backends, and whether each can be used."""
    return [_backend(entry.name, entry.dist) for entry in sorted(entry_points(group="unitrain.adapters"))]


def _version(name: str) -> str | None:
    return platform.python_version() if name == "python" else next(iter(blocked.installed(name)), None)


def _package(name: str) -> Package:
    version = _version(name)
    window = WINDOWS[name]
    held = MISSING if version is None else str(standing(name, version))
    return Package(name, version, held, window.supported, window.best_effort)


def _backend(name: str, registrar: object) -> Backend:
    distribution, version = getattr(registrar, "name", "?"), getattr(registrar, "version", "?")
    needed = _frameworks(name) if distribution == DISTRIBUTION else []
    found = [_package(one) for one in needed]
    there = [one for one in found if one.version is not None]
    refused = [one for one in there if one.standing in (Standing.DANGEROUS, Standing.OUTSIDE)]
    told = ", ".join(f"{one.name} {one.version}" for one in there) or f"not installed: {install_hint(name)}"
    if not needed:
        told = (
            "needs no framework"
            if distribution == DISTRIBUTION
            else "from another distribution; not imported by doctor"
        )
    return Backend(name, not refused and bool(there or not needed), distribution, version, told)


def _frameworks(backend: str) -> list[str]:
    """Return the distributions that a backend of unitrain's own needs one of: those of the extras with its name."""
    extras = [name for name in _extra_names() if name == backend or name.startswith(f"{backend}-")]
    found = [one.name for extra in extras for one in _requirements() if one.marker and _belongs(one, extra)]
    return list(dict.fromkeys(found))


# --- findings ---------------------------------------------------------------------------------------------------------


def _of_packages(packages: list[Package]) -> Iterator[Finding]:
    needed = {one.name for one in _requirements() if one.marker is None}
    for one in packages:
        if one.standing == MISSING and one.name in needed:
            yield Finding(Level.FAILURE, one.name, "is not installed.", f"pip install '{one.name}{one.supported}'")
        elif one.standing == Standing.OUTSIDE:
            told = f"{one.version} is not supported; use {one.best_effort or one.supported}."
            note = WINDOWS[one.name].outside
            yield Finding(Level.FAILURE, one.name, f"{told} {note}".strip(), _newer(one))
        elif one.standing == Standing.BEST_EFFORT:
            told = f"{one.version} works through shims, best effort; fully supported: {one.supported}."
            yield Finding(Level.WARNING, one.name, told, _newer(one))


def _newer(one: Package) -> str:
    if one.name == "python":
        return f"a Python {one.supported}"
    return f"pip install --upgrade '{one.name}{one.supported}'"


def _of_lightning() -> Iterator[Finding]:
    malicious = list(blocked.dangerous())
    for name, version, told in malicious:
        message = f"{version} is a malicious upload ({told}). doctor did not import it."
        fix = f"assume that secrets on this machine are stolen and replace them, then {blocked.UPGRADE}"
        yield Finding(Level.FAILURE, name, message, fix)
    different = blocked.mismatch()
    if different is not None and not malicious:
        message = f"pytorch-lightning {different[0]} and lightning {different[1]} are different copies of Lightning."
        yield Finding(Level.WARNING, "lightning", message, blocked.aligned(different))
    for name in blocked.BLOCKED:
        release = blocked.parsed(_version(name) or "")
        if release is not None and release < Version(FIXED_IN) and not malicious:
            message = (
                f"{release} imports code named by the '_instantiator' hyper-parameter of a checkpoint"
                f" (CVE-2026-58659): load_from_checkpoint can run arbitrary code. unitrain never passes it such a file."
            )
            yield Finding(Level.WARNING, name, message, f"pip install --upgrade '{name}>={FIXED_IN}'")


def _of_backends(backends: list[Backend]) -> Iterator[Finding]:
    own = [one for one in backends if one.distribution == DISTRIBUTION and _frameworks(one.name)]
    if not own:
        message = "is not installed as a package, so none of its backends is registered."
        yield Finding(Level.FAILURE, DISTRIBUTION, message, f"pip install '{DISTRIBUTION}'")
    elif not any(one.ready for one in own):
        fix = " or ".join(install_hint(one.name) for one in own)
        yield Finding(Level.WARNING, "backends", 'no framework is available; only "reference" is.', fix)


def _of_devices(accelerators: list[Accelerator]) -> Iterator[Finding]:
    if not accelerators[0].available:
        yield Finding(Level.FAILURE, "torch", accelerators[0].told, "pip install 'torch>=2.4'")


def _of_torchvision() -> Iterator[Finding]:
    """Find a torchvision that was built for another torch: importing it fails, and so do parts of Lightning."""
    torch, vision = (blocked.parsed(_version(name) or "") for name in ("torch", "torchvision"))
    if torch is None or vision is None:
        return
    pinned = [one for one in map(Requirement, requires("torchvision") or []) if one.name == "torch"]
    builds = {one.local for one in (torch, vision) if one.local is not None and one.local.startswith(_BUILDS)}
    default = "cu" if platform.system() == "Linux" else "cpu"  # what a release without a label was built for
    unlabelled = None in (torch.local, vision.local)
    other_build = len(builds) > 1 or (unlabelled and not all(one.startswith(default) for one in builds))
    if other_build or not all(_there(one) for one in pinned):
        message = f"{vision} was not built for torch {torch}: importing it, and parts of Lightning, may fail."
        yield Finding(
            Level.WARNING, "torchvision", message, f"pip uninstall torchvision, or its build for torch {torch}"
        )


_BUILDS = ("cpu", "cu", "rocm", "xpu")
"""How the labels begin that tell what a release was built for."""


# --- devices and parts ------------------------------------------------------------------------------------------------


def _accelerators() -> list[Accelerator]:
    """Ask torch, the first time that it is imported here; what keeps it from that is told."""
    try:
        import torch  # noqa: PLC0415 - the rest of the look does without
    except Exception as error:  # noqa: BLE001 - a broken torch fails in many ways
        return [Accelerator("cpu", available=False, told=f"torch cannot be imported: {error}")]
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    mps = torch.backends.mps.is_available()
    return [
        Accelerator("cpu", available=True, told=f"{torch.get_num_threads()} threads on {os.cpu_count()} processors"),
        Accelerator("cuda", available=bool(gpus), told=", ".join(gpus) or f"torch {torch.__version__} finds none"),
        Accelerator("mps", available=mps, told="there" if mps else "none"),
    ]


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(one) for one in requires(DISTRIBUTION) or []]
    except PackageNotFoundError:
        return []


def _extras() -> list[Extra]:
    """Return the optional parts, as the metadata name them."""
    return [_extra(name) for name in _extra_names()]


def _extra_names() -> list[str]:
    try:
        names = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
    return sorted(name for name in names if name != _ALL)


def _extra(name: str) -> Extra:
    of_it = [one for one in _requirements() if one.marker and _belongs(one, name)]
    missing = [f"{one.name}{one.specifier}" for one in of_it if not _there(one)]
    return Extra(name, not missing, missing, install_hint(name))


def _belongs(one: Requirement, extra: str) -> bool:
    assert one.marker is not None  # noqa: S101 - for the type checker
    return one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})


def _there(one: Requirement) -> bool:
    version = _version(one.name)
    release = None if version is None else blocked.parsed(version)
    return release is not None and one.specifier.contains(release, prereleases=True)
