"""Finds backends by name and loads them on demand."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from unitrain.errors import BackendNotInstalledError, ConfigError, did_you_mean, install_hint
from unitrain.utilities.rng import preserved_rng

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from unitrain.backends.foreign import Bridge
    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback

Framework: TypeAlias = "Literal['lightning', 'ignite', 'reference'] | str | Adapter"  # noqa: PYI051 - editors offer them
"""A registered backend's name, or an adapter."""

GROUP = "unitrain.adapters"
"""The entry-point group with which third-party packages register backends."""

TRACKERS = "unitrain.loggers"
"""The entry-point group of functions that wrap a framework's loggers as trackers, by top-level package.

Each takes an object and returns a tracker or None.
"""


CHECKPOINTS = "unitrain.checkpoints"
"""The entry-point group of codecs: who recognises, reads and writes a framework's own checkpoints."""

BRIDGES = "unitrain.bridges"
"""The entry-point group of runners of native code, by the framework's top-level package."""


def adapter_names() -> tuple[str, ...]:
    """Return the names of the registered backends, whether their framework is installed or not."""
    return tuple(sorted(_entries(GROUP)))


def _entries(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name."""
    return _found(group, tuple(sys.path))


@lru_cache
def _found(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:  # noqa: ARG001 - where they are looked for
    """Look for entry points, which reads a file of each installed package: 5 ms, more than all else before a step."""
    return {entry.name: entry for entry in entry_points(group=group)}


def find_adapter(framework: Framework) -> Adapter:
    """Return the backend ``framework`` names, or is.

    Raises:
        ConfigError: If no backend has that name.
        BackendNotInstalledError: If its framework is not installed.
    """
    if not isinstance(framework, str):
        return _checked(framework)
    if framework not in _entries(GROUP):
        _found.cache_clear()  # it may have been installed meanwhile, as in a notebook
    entries = _entries(GROUP)
    if framework not in entries:
        raise ConfigError(
            f"framework={framework!r} is unknown; available: {', '.join(map(repr, sorted(entries)))}.",
            hint=did_you_mean(framework, entries),
        )
    return cast("Adapter", _loaded(entries[framework])())


def _loaded(entry: EntryPoint) -> Any:
    try:
        with preserved_rng():  # rich, which Lightning imports, draws a number
            return entry.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("unitrain"):
            raise
        raise BackendNotInstalledError(
            f"framework={entry.name!r} needs the package {missing!r}, which is not installed.",
            hint=install_hint(entry.name),
        ) from error


def _checked(given: Any) -> Adapter:
    if isinstance(given, type) or not all(hasattr(given, part) for part in ("name", "features", "build")):
        raise ConfigError(
            f"framework must be a name or an Adapter object; got {given!r}.",
            hint=f"one of {', '.join(map(repr, adapter_names()))}.",
        )
    return cast("Adapter", given)


def find_trackers(given: Any) -> Any:
    """Return ``given`` with a tracker instead of each object that a framework's own package knows."""
    if not isinstance(given, (list, tuple)):
        return given
    makers = _entries(TRACKERS)
    return [_tracker(makers, one) for one in given]


def _tracker(makers: dict[str, EntryPoint], given: Any) -> Any:
    """Return what the package of one of the object's classes makes of it, else the object itself."""
    packages = {cls.__module__.partition(".")[0] for cls in type(given).__mro__}
    for name in packages & makers.keys():
        make: Callable[[Any], Any] = makers[name].load()
        made = make(given)
        if made is not None:
            return made
    return given


def find_bridge(code: Any) -> Bridge | None:
    """Return what runs ``code`` unchanged, or None if no registered framework is its own.

    Raises:
        BackendNotInstalledError: If the code's framework is not installed.
    """
    return bridge_of(type(code))


def bridge_of(kind: type) -> Bridge | None:
    """Return what runs objects of a class, or None if no registered framework is its own.

    Raises:
        BackendNotInstalledError: If the framework is not installed.
    """
    bridges = _entries(BRIDGES)
    packages = {cls.__module__.partition(".")[0] for cls in kind.__mro__}
    own = getattr(kind, "framework", None)
    name = own if own in bridges else next(iter(sorted(packages & bridges.keys())), None)
    return None if name is None else cast("Bridge", _loaded(bridges[name])())


def bridges() -> list[Bridge]:
    """Return what runs the code of each framework that is installed."""
    return _made(BRIDGES)


def checkpoint_codecs() -> list[Any]:
    """Return the codecs of frameworks' checkpoints; each is a ``CheckpointCodec``, a room above this one.

    One that needs a package that is not installed is left out.
    """
    return _made(CHECKPOINTS)


def _made(group: str) -> list[Any]:
    """Return an instance of what each entry point of a group names, as far as its package is installed."""
    found: dict[Any, None] = {}
    for _, entry in sorted(_entries(group).items()):
        try:
            found[_loaded(entry)] = None  # two names may be of one class
        except BackendNotInstalledError:
            continue
    return [make() for make in found]


def find_callback(native: Any, adapter: Adapter) -> Callback | None:
    """Return another framework's callback as one of unitrain, or None if no registered framework takes it for its own.

    Raises:
        UnsupportedFeatureError: If it works on its own framework only.
    """
    own = find_bridge(native)
    for bridge in bridges() if own is None else [own]:  # a handler may be a class of the user's, with no base
        made = None if bridge.home == adapter.name else bridge.callback(native, adapter)
        if made is not None:
            return made
    return None
