"""Everything unitrain raises.

::

    UnitrainError
    ├── ConfigError              an argument of UnifiedTrainer            (also a ValueError)
    ├── SpecError                a TrainSpec, a metric or a callback      (also a ValueError)
    ├── DataError                a loader or a batch                      (also a ValueError)
    ├── UnsupportedFeatureError  the backend does not support a feature    (also a NotImplementedError)
    ├── BackendNotInstalledError                                          (also an ImportError)
    ├── VersionError             a release that is too old, or dangerous
    ├── CheckpointError
    ├── ExportError
    ├── DeployError              a bundle or a deployment
    └── DistributedError

Each message says what was given and what is accepted; its last line is ``Hint:`` and a hint.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DISTRIBUTION = "pytorch-unitrain"
"""The name on the package index; the import name is ``unitrain``."""

T = TypeVar("T")
P = ParamSpec("P")


class UnitrainError(Exception):
    """The root of all errors that unitrain raises itself.

    Args:
        message: The given value and what is accepted.
        hint: The command or argument that fixes it.
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
    """The chosen backend does not support a requested feature; the hint names an alternative."""


class BackendNotInstalledError(UnitrainError, ImportError):
    """The package of the chosen backend is not installed."""


class VersionError(UnitrainError):
    """An installed release is outside the supported window, or known to be dangerous."""


class CheckpointError(UnitrainError):
    """A checkpoint cannot be written, read or applied."""


class ExportError(UnitrainError):
    """An export failed, or its outputs differ from the model's."""


class DeployError(UnitrainError):
    """A bundle cannot be written or read, or a deployment failed; the message says what remains."""


class DistributedError(UnitrainError):
    """A run on several processes cannot start, or one of them failed."""


def install_hint(extra: str) -> str:
    """Return the command that installs ``extra``."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def did_you_mean(given: str, accepted: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``accepted``, or all of them."""
    names = sorted(accepted)
    if not names:
        return "none is accepted."
    near = alike(given, names)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"accepted are {', '.join(names)}."


def nearest(given: object, accepted: Iterable[str]) -> str | None:
    """Return the one of ``accepted`` that is spelled most like ``given``, or None if none is like it."""
    return next(iter(alike(given, accepted)), None)


def alike(given: object, accepted: Iterable[str]) -> list[str]:
    """Return those of ``accepted`` that are spelled most like ``given``: several, if they are equally like it."""
    near = difflib.get_close_matches(str(given), accepted := sorted(accepted), n=3, cutoff=0.6)
    ratios = {one: difflib.SequenceMatcher(a=one, b=str(given)).ratio() for one in near}
    return sorted(one for one in near if ratios[one] == ratios[near[0]])


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
        what: Description of the names' owner, for messages.
        error: The class to raise.
        spellings: Current spellings by former name.
    """
    known, today = set(accepted), spellings or {}
    for name in given:
        if name not in known:
            hint = today.get(name) or did_you_mean(name, known)
            raise error(f"{what} got an unknown argument {name!r}.", hint=hint)


@dataclass(frozen=True)
class _Arguments:
    """The arguments that a call accepts.

    Attributes:
        what: Name of the function or class, for messages.
        accepted: All names.
        positional: Those that may be given by position, in order.
        required: Those without a default.
        takes_others: Whether further keywords reach the function, which checks them itself.
    """

    what: str
    accepted: tuple[str, ...]
    positional: tuple[str, ...]
    required: tuple[str, ...]
    takes_others: bool

    @classmethod
    def of(cls, function: Callable[..., Any], what: str, *, is_method: bool) -> Self:
        every = list(inspect.signature(function).parameters.values())[1 if is_method else 0 :]
        named = [one for one in every if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        return cls(
            what,
            accepted=tuple(one.name for one in named),
            positional=tuple(one.name for one in named if one.kind is not one.KEYWORD_ONLY),
            required=tuple(one.name for one in named if one.default is one.empty),
            takes_others=any(one.kind is one.VAR_KEYWORD for one in every),
        )

    def check(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        error: type[UnitrainError],
        example: str | None,
        spellings: Mapping[str, str] | None,
    ) -> None:
        """Raise ``error`` for an unknown keyword, or for arguments that are missing."""
        if not self.takes_others:
            refuse_unknown(kwargs, self.accepted, self.what, error, spellings)
        given = {*self.positional[: len(args)], *kwargs}
        missing = [f"{name}=" for name in self.required if name not in given]
        if missing:
            call = f"{self.what.removesuffix('()')}({', '.join(f'{name}=...' for name in self.required)})"
            raise error(f"{self.what} needs {' and '.join(missing)}.", hint=example or call)


def named_arguments(
    error: type[UnitrainError], spellings: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
) -> Callable[[type[T]], type[T]]:
    """Make a class refuse an unknown or missing argument with ``error`` and a hint, not with a bare TypeError.

    Args:
        error: The class to raise.
        spellings: Returns how to write today what of the keywords had another name once.
    """

    def decorate(cls: type[T]) -> type[T]:
        original = cls.__init__
        arguments = _Arguments.of(original, cls.__name__, is_method=True)

        @functools.wraps(original)
        def __init__(self: T, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            arguments.check(args, kwargs, error, None, spellings(kwargs) if spellings else None)
            original(self, *args, **kwargs)

        cls.__init__ = __init__  # type: ignore[method-assign, assignment]
        return cls

    return decorate


def complete_call(
    error: type[UnitrainError], example: str, *, is_method: bool = False
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function refuse an unknown or missing argument with ``error`` and a hint, not with a bare TypeError.

    Args:
        error: The class to raise.
        example: A complete call, which is the hint where an argument is missing.
        is_method: Whether the first parameter is the object.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        arguments = _Arguments.of(function, f"{function.__name__}()", is_method=is_method)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            arguments.check(args[1:] if is_method else args, kwargs, error, example, None)
            return function(*args, **kwargs)

        return checked

    return decorate


def no_attribute(given: object, name: str, what: str, equivalents: Mapping[str, str]) -> AttributeError:
    """Return the error for an attribute that ``given`` lacks, with the one that was meant.

    Args:
        given: The object whose attribute was requested.
        name: The attribute.
        what: Description of ``given``, for messages.
        equivalents: Equivalents of attributes of other libraries, by name.

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
