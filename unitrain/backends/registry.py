"""Finds backends by name and loads them on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from unitrain.errors import ConfigError, did_you_mean
from unitrain.utilities.plugins import (
    ADAPTERS,
    BRIDGES,
    CHECKPOINTS,
    TRACKERS,
    entries,
    left_out_if_broken,
    loaded,
    look_again,
    made,
    packages_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
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
    """Return the backend ``framework`` names, or is.

    Raises:
        ConfigError: If no backend has that name.
        BackendNotInstalledError: If its framework is not installed.
    """
    if not isinstance(framework, str):
        return _checked(framework)
    known = entries(ADAPTERS)
    if framework not in known:
        look_again()
        known = entries(ADAPTERS)
    if framework not in known:
        raise ConfigError(
            f"framework={framework!r} is unknown; available: {', '.join(map(repr, sorted(known)))}.",
            hint=did_you_mean(framework, known),
        )
    return cast("Adapter", made(known[framework]))


def _checked(given: Any) -> Adapter:
    if isinstance(given, type) or not all(hasattr(given, part) for part in ("name", "features", "build")):
        raise ConfigError(
            f"framework must be a name or an Adapter object; got {given!r}.",
            hint=f"one of {', '.join(map(repr, adapter_names()))}.",
        )
    return cast("Adapter", given)


def find_trackers(given: Any) -> Any:
    """Return ``given`` with a tracker instead of each object that a framework's own package knows."""
    if not isinstance(given, (list, tuple)) or not given:
        return given
    makers = entries(TRACKERS)
    return [_tracker(makers, one) for one in given]


def _tracker(makers: dict[str, EntryPoint], given: Any) -> Any:
    """Return what the package of one of the object's classes makes of it, else the object itself."""
    for name in {*packages_of(type(given))} & makers.keys():
        make: Callable[[Any], Any] = loaded(makers[name])
        tracker = make(given)
        if tracker is not None:
            return tracker
    return given


def find_bridge(code: Any) -> Bridge | None:
    """Return what runs ``code`` unchanged, or None if no registered framework is its own.

    Raises:
        BackendNotInstalledError: If the code's framework is not installed.
    """
    return bridge_of(type(getattr(code, "_orig_mod", code)))  # what torch.compile has wrapped


def bridge_of(kind: type) -> Bridge | None:
    """Return what runs objects of a class, or None if no registered framework is its own.

    Raises:
        BackendNotInstalledError: If the framework is not installed.
    """
    known = entries(BRIDGES)
    own = getattr(kind, "framework", None)
    name = own if own in known else next(iter(sorted({*packages_of(kind)} & known.keys())), None)
    return None if name is None else cast("Bridge", made(known[name]))


def bridges() -> list[Bridge]:
    """Return what runs the code of each framework that is installed."""
    return _made(BRIDGES)


def checkpoint_codecs() -> list[Any]:
    """Return the codecs of frameworks' checkpoints; each is a ``CheckpointCodec``, a room above this one.

    One that needs a package that is not installed is left out, and one that cannot be loaded, with a warning.
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
    """Return an instance of what each entry point of a group names, as far as it can be used."""
    found: dict[Any, Any] = {}
    for _, entry in sorted(entries(group).items()):
        with left_out_if_broken(entry):
            kind = loaded(entry)
            if kind not in found:  # two names may be of one class
                found[kind] = made(entry)
    return list(found.values())


def find_callback(native: Any, adapter: Adapter) -> Callback | None:
    """Return another framework's callback as one of unitrain, or None if no registered framework takes it for its own.

    Raises:
        UnsupportedFeatureError: If it works on its own framework only.
    """
    own = find_bridge(native)
    for bridge in bridges() if own is None else [own]:  # a handler may be a class of the user's, with no base
        callback = None if bridge.home == adapter.name else bridge.callback(native, adapter)
        if callback is not None:
            return callback
    return None
