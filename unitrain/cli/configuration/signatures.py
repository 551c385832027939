"""Checks arguments against the signature of a class or function, by jsonargparse."""

from __future__ import annotations

import copy
import inspect
import re
import types
import typing
import warnings
from typing import TYPE_CHECKING, Any

import jsonargparse

from unitrain.cli.configuration.class_paths import found
from unitrain.cli.configuration.yaml_files import values_of
from unitrain.errors import ConfigError, did_you_mean
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.cli.configuration.places import Key, Places

CLASS, ARGUMENTS, PASSED_ON = "class_path", "init_args", "dict_kwargs"
"""The keys that describe a call: its class or function, its arguments, and those that go through ``**kwargs``
unchecked."""

_SCALARS = (int, float, bool, type(None))
_REFUSALS = (jsonargparse.ArgumentError, ValueError, TypeError)


class Signature:
    """The parameters of a class or function.

    Args:
        target: The class or function.
        skip: Number of first parameters that a file does not give.
    """

    def __init__(self, target: Callable[..., Any], skip: int = 0) -> None:
        self._target = target
        self._parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False)
        add: Any = self._parser.add_class_arguments if isinstance(target, type) else self._parser.add_function_arguments
        add(target, fail_untyped=False, skip={skip} if skip else None)
        self.names = list(vars(self._parser.get_defaults(skip_validation=True)))

    @property
    def title(self) -> str:
        """The name of the class or function, for messages."""
        return str(getattr(self._target, "__qualname__", self._target))

    def has(self, kind: Any) -> bool:
        """Return whether it takes ``*args`` or ``**kwargs``, by the kind of parameter."""
        try:
            return any(one.kind is kind for one in inspect.signature(self._target).parameters.values())
        except (ValueError, TypeError):  # some builtins have no signature
            return False

    def parsed(self, given: dict[str, Any], key: Key, places: Places) -> jsonargparse.Namespace:
        """Return all arguments, in the types of the signature.

        Args:
            given: The given arguments by name.
            key: Their key.
            places: Where the configuration was given.

        Raises:
            ConfigError: If one is unknown, missing or of another type.
        """
        for name in given:
            if name not in self.names:
                said = f"{self.title} has no argument {name!r}."
                raise places.refusal((*key, name), said, self._hint(name))
        parsed: jsonargparse.Namespace
        try:
            parsed = self._parser.parse_object(copy.deepcopy(given), env=False)
        except _REFUSALS as error:
            raise _refusal(str(error), given, key, places) from error
        for name, value in given.items():  # a quoted "16" stays a text where a text is accepted
            if isinstance(value, str) and not isinstance(parsed[name], str) and self._takes_text(name):
                parsed[name] = value
        return parsed

    def objects(self, arguments: jsonargparse.Namespace) -> dict[str, Any]:
        """Return parsed arguments with the classes that are named in them as objects."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # classes for untyped arguments are meant here
            made = vars(self._parser.instantiate(arguments.clone()))
        texts = {name: one for name, one in vars(arguments).items() if isinstance(one, str)}
        return {name: texts[name] if name in texts and type(one) in _SCALARS else one for name, one in made.items()}

    def plain(self, arguments: jsonargparse.Namespace, given: dict[str, Any]) -> dict[str, Any]:
        """Return parsed arguments as a file has them. A default that would not read back the same is left out."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of defaults without a plain form
            text = self._parser.dump(arguments, format="yaml", skip_unset=False, skip_validation=True)
        texts = {name: value for name, value in given.items() if isinstance(arguments[name], str)}
        written = {**values_of(text), **texts}
        return {
            name: value for name, value in written.items() if name in given or self._reads_back(value, arguments, name)
        }

    def _reads_back(self, value: Any, arguments: jsonargparse.Namespace, name: str) -> bool:
        alone = arguments.clone()
        alone[name] = value
        try:
            again = self._parser.parse_object(alone, env=False)[name]
        except _REFUSALS:
            return False
        return type(again) is type(arguments[name]) and bool(again == arguments[name])

    def _hint(self, name: str) -> str:
        hint = did_you_mean(name, self.names)
        if hint.startswith("did you mean"):
            return hint
        if self.has(inspect.Parameter.VAR_KEYWORD):
            return f"what {self.title} passes on by **kwargs goes into {PASSED_ON}, unchecked."
        if not self.names or self.has(inspect.Parameter.VAR_POSITIONAL):
            return f"arguments are passed by name; write a function that returns {self.title}(...), and name that."
        return hint

    def _takes_text(self, name: str) -> bool:
        function: Any = self._target.__init__ if isinstance(self._target, type) else self._target  # type: ignore[misc]
        try:
            hints = typing.get_type_hints(function)
            declared = inspect.signature(function).parameters
        except Exception:  # noqa: BLE001 - whatever somebody's hints are
            return False
        hint = hints.get(name, Any)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        return name in declared and (hint in (Any, object) or (union and str in typing.get_args(hint)))


_AT = re.compile(r'Parser key "([^"]+)":|Problem with given class_path \'([^\']+)\':')
_EXPECTED = re.compile(r"Expected an? (<class '[^']+'>|[^.]+?)\.? Got value: ")
_SUBTYPES = re.compile(r"Subtypes: \[(.*?)\]\s*Errors:", re.DOTALL)
_MISSING = re.compile(r"the following arguments are required: ([^,\s]+)")
_UNKNOWN = re.compile(r"Option '([^']+)' is not accepted")
_NO_SUBCLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of (\S+)")
_CLASS_NAME = re.compile(r"<class '([^']+)'>")


def _refusal(text: str, given: dict[str, Any], key: Key, places: Places) -> ConfigError:
    """Return the error for what jsonargparse has refused, with the key that it is about."""
    value: Any = given
    title, rest = "", text
    for at in _AT.finditer(text):
        parts = at[1].split(".") if at[1] else [ARGUMENTS] if at[2] != title else []
        title, rest = at[2] or title, text[at.end() :].strip()
        key = (*key, *parts)
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else value
    if (missing := _MISSING.search(rest)) is not None:
        return places.refusal((*key, missing[1]), "is missing.", f"{ARGUMENTS}: {{{missing[1]}: ...}}")
    if (unknown := _UNKNOWN.search(rest)) is not None:
        names = Signature(found(title, key, places)).names if title else []
        said = f"{title} has no argument {unknown[1]!r}."
        return places.refusal((*key, unknown[1]), said, did_you_mean(unknown[1], names))
    return places.refusal(key, _why(rest, value), "the signature says which types are accepted.")


def _why(text: str, value: Any) -> str:
    expected, subtypes, other = _EXPECTED.match(text), _SUBTYPES.search(text), _NO_SUBCLASS.search(text)
    if other is not None:
        return f"must be a {other[2]}; {other[1]} is none."
    if subtypes is not None:
        return f"must be {_short(subtypes[1]).replace(', ', ' or ')}; got {shown(value)}."
    if expected is not None:
        return f"must be {_short(expected[1])}; got {shown(value)}."
    return f"{' '.join(_short(text).split())}."


def _short(text: str) -> str:
    return _CLASS_NAME.sub(r"\1", text).replace("NoneType", "null")
