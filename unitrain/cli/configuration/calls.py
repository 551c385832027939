"""Calls of classes and functions that a configuration names."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jsonargparse

from unitrain.cli.configuration.class_paths import found, told
from unitrain.cli.configuration.signatures import ARGUMENTS, CLASS, PASSED_ON, Signature
from unitrain.errors import UnitrainError, did_you_mean
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonargparse import Namespace

    from unitrain.cli.configuration.places import Key, Places

NODE = (CLASS, ARGUMENTS, PASSED_ON)


def is_node(value: Any) -> bool:
    """Return whether ``value`` is a mapping that names a class or function."""
    return isinstance(value, dict) and CLASS in value


@dataclass(frozen=True)
class Call:
    """A class or function, and arguments that fit its signature.

    Attributes:
        key: The key that names it.
        places: Where the configuration was given.
        path: Its name with its module.
        target: The class or function.
        signature: Its parameters.
        arguments: All of its arguments, also those that were not given.
        given: The arguments that were given.
        passed_on: Arguments for its ``**kwargs``, unchecked.
    """

    key: Key
    places: Places
    path: str
    target: Callable[..., Any]
    signature: Signature
    arguments: Namespace
    given: dict[str, Any]
    passed_on: dict[str, Any]

    @property
    def is_class(self) -> bool:
        """Whether it is a class."""
        return isinstance(self.target, type)

    @property
    def node(self) -> dict[str, Any]:
        """What a file says, with all arguments."""
        more = {PASSED_ON: self.passed_on} if self.passed_on else {}
        return {CLASS: self.path, ARGUMENTS: self.signature.plain(self.arguments, self.given), **more}

    def made(self) -> Any:
        """Return what the call returns.

        Raises:
            UnitrainError: If it raises anything; the message names the key.
        """
        with self._named():
            return self.target(**self._objects())

    def factory(self) -> Callable[..., Any]:
        """Return the class or function with these arguments, for a caller who adds the first ones.

        Raises:
            UnitrainError: If an argument cannot be made.
        """
        with self._named():
            objects = self._objects()
        return partial(self.target, **objects) if objects else self.target

    def _objects(self) -> dict[str, Any]:
        objects = self.signature.objects(self.arguments) | self.passed_on
        return {name: built(value, (*self.key, ARGUMENTS, name), self.places) for name, value in objects.items()}

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say which key it is whose class or function raises an error."""
        try:
            with self.places.naming(self.key):
                yield
        except UnitrainError:
            raise
        except (Exception, SystemExit) as error:
            raise self.places.refusal(
                self.key, f"{self.path} raised {told(error)}.", "correct its arguments, or its code."
            ) from error


def built(value: Any, key: Key, places: Places) -> Any:
    """Return ``value`` with the classes that are named anywhere in it as objects."""
    if is_node(value) and not value.keys() - {*NODE}:
        return call_of(value, key, places).made()
    if type(value) is dict:
        return {name: built(one, (*key, name), places) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(built(one, (*key, index), places) for index, one in enumerate(value))
    return value


def call_of(node: Any, key: Key, places: Places, *, skip: int = 0, more: tuple[str, ...] = ()) -> Call:
    """Return the call that a node of a configuration describes.

    Args:
        node: The name of a class or function, or a mapping with ``class_path`` and ``init_args``.
        key: Its key.
        places: Where the configuration was given.
        skip: Number of first parameters that somebody else passes.
        more: Further keys that the mapping may have.

    Raises:
        ConfigError: If there is no such class or function, or the arguments do not fit.
    """
    target = target_of(node, key, places)
    node = {CLASS: node} if isinstance(node, str) else node
    _require_node_keys(node, key, places, more)
    given, passed_on = (_mapping(node, name, key, places) for name in (ARGUMENTS, PASSED_ON))
    try:
        signature = Signature(target, skip)
    except (ValueError, TypeError, jsonargparse.ArgumentError) as error:
        raise places.refusal(
            key, f"the arguments of {node[CLASS]} cannot be read: {told(error)}.", "write a function that calls it."
        ) from error
    arguments = signature.parsed(given, (*key, ARGUMENTS), places)
    if passed_on and not signature.has(inspect.Parameter.VAR_KEYWORD):
        raise places.refusal((*key, PASSED_ON), f"{node[CLASS]} takes no **kwargs.", f"use {ARGUMENTS}.")
    return Call(key, places, node[CLASS], target, signature, arguments, given, passed_on)


def target_of(node: Any, key: Key, places: Places) -> Callable[..., Any]:
    """Return the class or function that a node of a configuration names.

    Raises:
        ConfigError: If there is no such class or function.
    """
    if isinstance(node, str):
        return found(node, key, places)
    if is_node(node):
        return found(node[CLASS], (*key, CLASS), places)
    raise places.refusal(
        key,
        f"must name a class and its arguments; got {shown(node)}.",
        "{class_path: package.Class, init_args: {size: 1}}, or the name alone.",
    )


def _require_node_keys(node: dict[str, Any], key: Key, places: Places, more: tuple[str, ...]) -> None:
    for name in node:
        if name not in (*NODE, *more):
            hint = did_you_mean(str(name), [*NODE, *more])
            if not hint.startswith("did you mean"):
                hint = f"arguments of {node[CLASS]} go into {ARGUMENTS}: {{{name}: ...}}."
            raise places.refusal((*key, str(name)), "unknown key.", hint)


def _mapping(node: dict[str, Any], name: str, key: Key, places: Places) -> dict[str, Any]:
    value = node.get(name)
    if value is not None and not (isinstance(value, dict) and all(isinstance(one, str) for one in value)):
        raise places.refusal(
            (*key, name), f"must be a mapping of names to values; got {shown(value)}.", f"{name}: {{}}"
        )
    return value or {}
