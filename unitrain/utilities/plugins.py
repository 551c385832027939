"""What installed packages bring to unitrain by entry points, looked up by name and loaded when it is asked for."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from unitrain.errors import BackendNotInstalledError, UnitrainError, install_hint
from unitrain.utilities.rng import preserved_rng

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

TRACKERS = "unitrain.loggers"
"""Who makes trackers of a framework's own loggers, by its top-level package.

Each takes an object and returns a tracker or None.
"""

_GROUPS = (ADAPTERS, BRIDGES, CHECKPOINTS, METRICS, TRACKERS)


def entries(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return _found(tuple(sys.path))[group]


@lru_cache
def _found(path: tuple[str, ...]) -> dict[str, dict[str, EntryPoint]]:  # noqa: ARG001 - where they are looked for
    """Look for entry points, which reads a file of each installed package: 5 ms, more than all else before a step."""
    found = entry_points()
    return {group: {entry.name: entry for entry in found.select(group=group)} for group in _GROUPS}


def look_again() -> None:
    """Let the next look see what was installed meanwhile, as in a notebook."""
    _found.cache_clear()


def loaded(entry: EntryPoint) -> Any:
    """Return what an entry point names.

    Raises:
        BackendNotInstalledError: If it needs a package that is not installed.
        UnitrainError: If it cannot be loaded for another reason.
    """
    with _named(entry), preserved_rng():  # rich, which Lightning imports, draws a number
        return entry.load()


def made(entry: EntryPoint) -> Any:
    """Return an instance of the class that an entry point names.

    Raises:
        BackendNotInstalledError: If it needs a package that is not installed.
        UnitrainError: If it cannot be loaded for another reason.
    """
    kind = loaded(entry)
    with _named(entry):
        return kind()


@contextmanager
def _named(entry: EntryPoint) -> Iterator[None]:
    """Raise an error that names the entry point and its package."""
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
            f"framework={entry.name!r} needs the package {missing!r}, which is not installed.",
            hint=install_hint(entry.name),
        ) from error


@contextmanager
def left_out_if_broken(entry: EntryPoint) -> Iterator[None]:
    """Warn if an entry point that nobody asked for cannot be used, silently if its package is not installed."""
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
