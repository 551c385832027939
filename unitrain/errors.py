"""Everything unitrain raises.

::

    UnitrainError
    ├── ConfigError              an argument of UnifiedTrainer            (also a ValueError)
    ├── SpecError                a TrainSpec, a metric or a callback      (also a ValueError)
    ├── DataError                a loader or a batch                      (also a ValueError)
    ├── UnsupportedFeatureError  the chosen backend lacks what was asked  (also a NotImplementedError)
    ├── BackendNotInstalledError                                          (also an ImportError)
    ├── VersionError             a release that is too old, or dangerous
    ├── CheckpointError
    ├── ExportError
    └── DistributedError

Each message says what was given and what is accepted; its last line is ``Hint:`` and a hint.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DISTRIBUTION = "pytorch-unitrain"
"""The name on the package index; the import name is ``unitrain``."""

T = TypeVar("T")


class UnitrainError(Exception):
    """The root of all errors that unitrain raises itself.

    Args:
        message: What was given and what is accepted.
        hint: The command or the argument that fixes it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\nHint: {hint}")


class ConfigError(UnitrainError, ValueError):
    """An argument of the trainer is invalid."""


class SpecError(UnitrainError, ValueError):
    """The spec (model, loss, optimizer, metrics, callbacks) cannot be trained as given."""


class DataError(UnitrainError, ValueError):
    """A loader or a batch is not what the spec expects."""


class UnsupportedFeatureError(UnitrainError, NotImplementedError):
    """The chosen backend does not support what was asked; it says which one does."""


class BackendNotInstalledError(UnitrainError, ImportError):
    """The package of the chosen backend is not installed."""


class VersionError(UnitrainError):
    """An installed release is outside the supported window, or known to be dangerous."""


class CheckpointError(UnitrainError):
    """A checkpoint cannot be written, read or applied."""


class ExportError(UnitrainError):
    """An export failed or does not compute what the model computes."""


class DistributedError(UnitrainError):
    """A run on several processes cannot start or was broken by one of them."""


def install_hint(extra: str) -> str:
    """Return the command that installs ``extra``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def did_you_mean(given: str, accepted: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``accepted``, or all of them."""
    names = sorted(accepted)
    if not names:
        return "none is accepted."
    near = nearest(given, names)
    return f"accepted are {', '.join(names)}." if near is None else f"did you mean {near!r}?"


def nearest(given: object, accepted: Iterable[str]) -> str | None:
    """Return the one of ``accepted`` that is spelled most like ``given``, or None if none is like it."""
    return next(iter(difflib.get_close_matches(str(given), sorted(accepted), n=1, cutoff=0.6)), None)


def refuse_unknown(
    given: Iterable[str],
    accepted: Iterable[str],
    what: str,
    error: type[UnitrainError],
    spellings: Mapping[str, str] | None = None,
) -> None:
    """Raise ``error`` for the first name of ``given`` that is not ``accepted``.

    Args:
        given: The names that were given.
        accepted: The names there are.
        what: What the names belong to, for the message.
        error: The class to raise.
        spellings: How to write today what had another name once, by that name.
    """
    known, today = set(accepted), spellings or {}
    for name in given:
        if name not in known:
            hint = today.get(name) or did_you_mean(name, known)
            raise error(f"{what} got an unknown argument {name!r}.", hint=hint)


def named_arguments(
    error: type[UnitrainError], spellings: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
) -> Callable[[type[T]], type[T]]:
    """Make a class refuse an unknown keyword with ``error`` and a spelling hint, not with a bare TypeError.

    Args:
        error: The class to raise.
        spellings: Returns how to write today what of the keywords had another name once.
    """

    def decorate(cls: type[T]) -> type[T]:
        original = cls.__init__
        accepted = list(inspect.signature(original).parameters)[1:]

        @functools.wraps(original)
        def __init__(self: T, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            refuse_unknown(kwargs, accepted, cls.__name__, error, spellings(kwargs) if spellings else None)
            original(self, *args, **kwargs)

        cls.__init__ = __init__  # type: ignore[method-assign, assignment]
        return cls

    return decorate


def no_attribute(given: object, name: str, what: str, equivalents: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that ``given`` lacks, with the one that was meant.

    Args:
        given: What was asked.
        name: The attribute.
        what: What ``given`` is, for the message.
        equivalents: What to write for attributes of other libraries, by their names.

    Raises:
        AttributeError: The error of a property's own code, if there is a property of that name.
    """
    if isinstance(inspect.getattr_static(type(given), name, None), property):
        object.__getattribute__(given, name)
    text = f"{what} has no attribute {name!r}."
    if name.startswith("_"):
        return AttributeError(text)
    near = nearest(name, (one for one in dir(given) if not one.startswith("_")))
    hint = equivalents.get(name) or (None if near is None else f"did you mean {near!r}?")
    return AttributeError(text if hint is None else f"{text}\nHint: {hint}")
