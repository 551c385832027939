"""Plug-ins of installed packages, found by entry points and loaded on demand."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from unitrain.errors import DISTRIBUTION, BackendNotInstalledError, UnitrainError, did_you_mean, install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

ADAPTERS = "unitrain.adapters"
"""Backends, by name."""

BRIDGES = "unitrain.bridges"
"""What runs a framework's own code and callbacks, by the framework's top-level package."""

CHECKPOINTS = "unitrain.checkpoints"
"""Codecs: who recognises, reads and writes a framework's own checkpoints."""

METRICS = "unitrain.metrics"
"""What makes a ``StageMetric`` of a library's metric, by the library's top-level package."""

PROVIDERS = "unitrain.providers"
"""Where bundles are deployed, by the name that users write."""

TRACKERS = "unitrain.loggers"
"""Who makes trackers of a framework's own loggers, by its top-level package.

Each takes an object and returns a tracker or None.
"""

_GROUPS = (ADAPTERS, BRIDGES, CHECKPOINTS, METRICS, PROVIDERS, TRACKERS)

_ARGUMENTS = {PROVIDERS: "provider"}
"""The argument that names an entry point of a group, for messages; of the others it is ``framework``."""


def entries(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return _found(tuple(sys.path))[group]


@lru_cache
def _found(path: tuple[str, ...]) -> dict[str, dict[str, EntryPoint]]:  # noqa: ARG001 - where they are looked for
    """Find entry points, which reads a file per installed package: 5 ms, more than anything else before a step."""
    found = entry_points()
    return {group: {entry.name: entry for entry in found.select(group=group)} for group in _GROUPS}


def named(group: str, name: object, error: type[UnitrainError]) -> EntryPoint:
    """Return the entry point that a user names; an unknown name is looked for again, as a notebook may install it.

    Args:
        group: The group.
        name: What was given for the group's argument.
        error: The class to raise.

    Raises:
        UnitrainError: ``error``, if there is none of that name.
    """
    is_text = isinstance(name, str)
    known = entries(group)
    if is_text and name not in known:
        _found.cache_clear()
        known = entries(group)
    if not is_text or name not in known:
        available = ", ".join(map(repr, sorted(known)))
        raise error(
            f"{_argument(group)}={name!r:.80} is unknown; available: {available}.", hint=did_you_mean(str(name), known)
        )
    return known[name]


def _argument(group: str) -> str:
    return _ARGUMENTS.get(group, "framework")


def loaded(entry: EntryPoint) -> Any:
    """Load an entry point.

    Raises:
        BackendNotInstalledError: If it needs a package that is not installed.
        UnitrainError: If it cannot be loaded for another reason.
    """
    with _named(entry), _preserved_rng():
        return entry.load()


def made(entry: EntryPoint) -> Any:
    """Return an instance of the class of an entry point.

    Raises:
        BackendNotInstalledError: If it needs a package that is not installed.
        UnitrainError: If it cannot be loaded for another reason.
    """
    kind = loaded(entry)
    with _named(entry):
        return kind()


@contextmanager
def _preserved_rng() -> Iterator[None]:
    """Let imports draw no random number: rich, which Lightning imports, draws one.

    Without torch there is nothing to train yet, and a command line does not import it for this.
    """
    if "torch" not in sys.modules:
        yield
        return
    from unitrain.utilities.rng import preserved_rng  # noqa: PLC0415 - it imports torch

    with preserved_rng():
        yield


@contextmanager
def _named(entry: EntryPoint) -> Iterator[None]:
    """Turn errors into ones that name the entry point and its package."""
    try:
        yield
    except UnitrainError:
        raise
    except Exception as error:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else "unitrain"
        if missing.startswith("unitrain"):
            raise UnitrainError(
                f"{_shown(entry)} cannot be loaded: {type(error).__name__}: {error}",
                hint="update or uninstall the package that registers it.",
            ) from error
        raise BackendNotInstalledError(
            f"{_argument(entry.group)}={entry.name!r} needs the package {missing!r}, which is not installed.",
            hint=install_hint(entry.name) if _is_own(entry) else f"pip install {missing}",
        ) from error


def _is_own(entry: EntryPoint) -> bool:
    """Return whether an extra of unitrain installs what the entry point needs."""
    return entry.dist is None or entry.dist.name.replace("_", "-") == DISTRIBUTION


@contextmanager
def left_out_if_broken(entry: EntryPoint) -> Iterator[None]:
    """Skip an unusable optional entry point with a warning, or silently if its package is not installed."""
    try:
        yield
    except BackendNotInstalledError:
        return
    except Exception as error:  # noqa: BLE001 - it is code of another package, which may raise anything
        cause = error.__cause__ or error
        warnings.warn(
            f"{_shown(entry)} cannot be loaded and is left out: {type(cause).__name__}: {cause}. Update or uninstall"
            " the package that registers it.",
            stacklevel=3,  # contextlib is between
        )


def _shown(entry: EntryPoint) -> str:
    source = "" if entry.dist is None else f" of the package {entry.dist.name} {entry.dist.version}"
    return f"the entry point {entry.name!r} ({entry.value}) in the group {entry.group!r}{source}"


def packages_of(kind: type) -> list[str]:
    """Return the top-level packages of a class and its bases, its own first."""
    return [cls.__module__.partition(".")[0] for cls in kind.__mro__]
