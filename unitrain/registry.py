"""Finds a backend by its name, and loads it only when it is asked for."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from unitrain.errors import BackendNotInstalledError, ConfigError, did_you_mean, install_hint

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from unitrain.protocol import Adapter

GROUP = "unitrain.adapters"
"""The entry-point group; a third party adds a backend by publishing a package with one."""


def adapter_names() -> tuple[str, ...]:
    """Return the names of the registered backends, whether their framework is installed or not."""
    return tuple(sorted(_entries()))


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def find_adapter(framework: str | Adapter) -> Adapter:
    """Return the backend ``framework`` names, or is.

    Raises:
        ConfigError: If no backend has that name.
        BackendNotInstalledError: If its framework is not installed.
    """
    if not isinstance(framework, str):
        return _checked(framework)
    entries = _entries()
    if framework not in entries:
        raise ConfigError(
            f"framework={framework!r} is unknown; there are {', '.join(map(repr, sorted(entries)))}.",
            hint=did_you_mean(framework, entries),
        )
    try:
        adapter = entries[framework].load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("unitrain"):
            raise
        raise BackendNotInstalledError(
            f"framework={framework!r} needs the package {missing!r}, which is not installed.",
            hint=install_hint(framework),
        ) from error
    return cast("Adapter", adapter())


def _checked(given: Any) -> Adapter:
    if isinstance(given, type) or not all(hasattr(given, part) for part in ("name", "features", "build")):
        raise ConfigError(
            f"framework must be a name or an Adapter object; got {given!r}.",
            hint=f"one of {', '.join(map(repr, adapter_names()))}.",
        )
    return cast("Adapter", given)
