"""Finds backends by name and loads them on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from unitrain.backends.foreign import FileReader
from unitrain.errors import ConfigError
from unitrain.loggers.metrics_client import MetricsClient, is_client
from unitrain.loggers.preparation import refuse_twice
from unitrain.utilities.plugins import (
    ADAPTERS,
    BRIDGES,
    CHECKPOINTS,
    TRACKERS,
    entries,
    left_out_if_broken,
    loaded,
    made,
    named,
    packages_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint

    from unitrain.backends.foreign import Bridge
    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback

Framework: TypeAlias = "Literal['lightning', 'ignite', 'reference'] | str | Adapter"  # noqa: PYI051 - editors offer them
"""A registered backend's name, or an adapter."""


def adapter_names() -> tuple[str, ...]:
    """Return the names of the registered backends, whether their framework is installed or not."""
    return tuple(sorted(entries(ADAPTERS)))


def find_adapter(framework: Framework) -> Adapter:
    """Return the backend that ``framework`` names, or the given adapter.

    Raises:
        ConfigError: If no backend has that name.
        BackendNotInstalledError: If its framework is not installed.
    """
    if not isinstance(framework, str):
        return _checked(framework)
    return cast("Adapter", made(named(ADAPTERS, framework, ConfigError)))


def _checked(given: Any) -> Adapter:
    if isinstance(given, type) or not all(hasattr(given, part) for part in ("name", "features", "build")):
        raise ConfigError(
            f"framework must be a name or an Adapter object; got {given!r}.",
            hint=f"one of {', '.join(map(repr, adapter_names()))}.",
        )
    return cast("Adapter", given)


def find_trackers(given: Any) -> Any:
    """Return ``given`` with each framework's own logger, and each monitoring client, wrapped in a tracker."""
    if not isinstance(given, (list, tuple)) or not given:
        return given
    makers = entries(TRACKERS)
    found = [_tracker(makers, one) for one in given]
    refuse_twice(found)
    return found


def _tracker(makers: dict[str, EntryPoint], given: Any) -> Any:
    """Return the object wrapped by its package's entry point, or as a client; if neither is the case, the object."""
    for name in {*packages_of(type(given))} & makers.keys():
        make: Callable[[Any], Any] = loaded(makers[name])
        tracker = make(given)
        if tracker is not None:
            return tracker
    return MetricsClient(given) if is_client(given) else given


def find_bridge(code: Any) -> Bridge | None:
    """Return the bridge that runs ``code`` unchanged, or None if it belongs to no registered framework.

    Raises:
        BackendNotInstalledError: If the code's framework is not installed.
    """
    return bridge_of(type(getattr(code, "_orig_mod", code)))  # what torch.compile has wrapped


def bridge_of(kind: type) -> Bridge | None:
    """Return the bridge for objects of a class, or None if it belongs to no registered framework.

    Raises:
        BackendNotInstalledError: If the framework is not installed.
    """
    known = entries(BRIDGES)
    own = getattr(kind, "framework", None)
    name = own if own in known else next(iter(sorted({*packages_of(kind)} & known.keys())), None)
    return None if name is None else cast("Bridge", made(known[name]))


def bridges() -> list[Bridge]:
    """Return the bridges of all installed frameworks."""
    return _made(BRIDGES)


def find_file_reader(contents: Mapping[str, Any]) -> FileReader | None:
    """Return the bridge of the framework whose own command line reads a file with these contents, or None."""
    readers = (one for one in bridges() if isinstance(one, FileReader))
    return next((one for one in readers if one.reads(contents)), None)


def checkpoint_codecs() -> list[Any]:
    """Return the codecs of frameworks' checkpoints; each is a ``CheckpointCodec``, which a higher layer defines.

    A codec is omitted if its package is not installed, and omitted with a warning if it cannot be loaded.
    """
    return _made(CHECKPOINTS)


def require_codec(name: str) -> None:
    """Refuse a registered codec that cannot be used, and accept every other name.

    Raises:
        BackendNotInstalledError: If it needs a package that is not installed.
        UnitrainError: If it cannot be loaded for another reason.
    """
    known = entries(CHECKPOINTS)
    if name in known:
        made(known[name])


def _made(group: str) -> list[Any]:
    """Return an instance of each usable entry point of a group."""
    found: dict[Any, Any] = {}
    for _, entry in sorted(entries(group).items()):
        with left_out_if_broken(entry):
            kind = loaded(entry)
            if kind not in found:  # two names may be of one class
                found[kind] = made(entry)
    return list(found.values())


def find_callback(native: Any, adapter: Adapter) -> Callback | None:
    """Wrap another framework's callback in a unitrain callback; None if no registered framework accepts it.

    Raises:
        UnsupportedFeatureError: If it works only on its own framework.
    """
    own = find_bridge(native)
    for bridge in bridges() if own is None else [own]:  # a handler may be a class of the user's, with no base
        callback = None if bridge.home == adapter.name else bridge.callback(native, adapter)
        if callback is not None:
            return callback
    return None
