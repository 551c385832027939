"""Engines whose class has a ``run`` of its own, and ``Engine.run`` where another backend's loop stands in for it."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError, UnsupportedFeatureError
from unitrain_bridges.ignite.prepare import RunArguments
from unitrain_ignite._compat import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MEANT = {
    "data": "the loader given to the trainer",
    "max_epochs": "max_epochs={max_epochs!r}",
    "max_iters": "max_iters={max_iters!r}",
    "epoch_length": "epoch_length={epoch_length!r}",
}
"""How an error names the arguments of ``Engine.run``."""


def has_own_run(engine: Engine) -> bool:
    """Return whether the engine's class overrides ``run``."""
    return _owner(engine) is not Engine


def _owner(engine: Engine) -> type:
    return next(cls for cls in type(engine).__mro__ if "run" in vars(cls))


def refuse_arguments(engine: Engine, wanted: RunArguments) -> None:
    """Refuse arguments that a class's own ``run`` does not accept; it sets the others itself.

    Raises:
        ConfigError: With the argument, and what to do without it.
    """
    if not has_own_run(engine):
        return
    given, signature = given_of(wanted), inspect.signature(engine.run)
    method = f"{_owner(engine).__name__}.run{signature}"
    takes_any = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    refused = next((name for name in given if not takes_any and name not in signature.parameters), None)
    if refused is not None:
        raise ConfigError(
            f"{_MEANT[refused].format(**given)} cannot act: {method} does not take {refused}.",
            hint="leave it out: the engine's run() decides it.",
        )
    try:
        signature.bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"{method} cannot be called with {', '.join(given) or 'no arguments'}: {error}.",
            hint="keep what run() needs in an attribute of the engine, or give it a default.",
        ) from None


def given_of(wanted: RunArguments) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {name: value for name, value in wanted._asdict().items() if value is not None}


@contextmanager
def runs_redirected(
    drive: Callable[[Engine, RunArguments], object], meant: Callable[[Engine], bool]
) -> Iterator[list[str]]:
    """Replace ``Engine.run`` with ``drive``, and yield a list of the names of the classes that it ran.

    The engines themselves are not kept: Ignite frees one as soon as its user drops it.

    Args:
        drive: Takes the engine and the arguments of the call.
        meant: Says whose runs it takes over; the others stay Ignite's, and so does a run of an engine within its own.
    """
    original = Engine.run
    signature = inspect.signature(original)
    running: list[Engine] = []
    driven: list[str] = []

    @wraps(original)
    def run(engine: Engine, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(engine, *args, **kwargs).arguments
        given.pop("self")
        if any(engine is one for one in running) or not meant(engine):
            return original(engine, *args, **kwargs)
        running.append(engine)
        driven.append(type(engine).__name__)
        try:
            drive(engine, RunArguments(**given))
        finally:
            running.pop()
        return engine.state

    Engine.run = run  # type: ignore[assignment, method-assign]
    try:
        yield driven
    finally:
        Engine.run = original  # type: ignore[method-assign]


def run_by_its_own(
    engine: Engine, wanted: RunArguments, drive: Callable[[RunArguments], object], framework: str
) -> None:
    """Call the class's own ``run``, whose calls of ``Engine.run`` go to another backend.

    Raises:
        UnsupportedFeatureError: If it has a loop of its own, which called none.
    """
    with runs_redirected(lambda _, given: drive(given), lambda one: one is engine) as driven:
        engine.run(**given_of(wanted))
    if not driven:
        owner = _owner(engine).__name__
        raise UnsupportedFeatureError(
            f"{owner}.run() did not call Engine.run(), so nothing of it ran on {framework!r}.",
            hint='UnifiedTrainer("ignite"), or super().run(...) in it.',
        )
