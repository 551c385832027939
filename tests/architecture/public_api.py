"""Writes public_api.txt, what users may rely on: `make docs`.

These are the names of ``unitrain``, with their signatures, defaults and annotations; the public methods, properties and
documented attributes of classes; the options that functions accept as ``**options``; and the commands, arguments and
options of the command line. A change of a line there is a change for users: it needs a line in CHANGELOG.md, and an old
name stays for a while, marked with ``unitrain.compat.deprecation.deprecated``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any, is_typeddict

import unitrain
from unitrain.cli import commands

PAGE = Path(__file__).with_name("public_api.txt")
DEEP = {
    "unitrain.compat": ["upgrade"],
    "unitrain.distributed.ray": ["RayTrainer"],
    "unitrain.serving.options": ["ServiceConfig"],  # the defaults of `ServeOptions`
}
"""What is public beside the names of ``unitrain``."""
_ATTRIBUTES = re.compile(r"^Attributes:\n((?:    .*\n|\n)+)", re.MULTILINE)
_WIDTH = 100
_OPTIONS = re.compile(r"Unpack\[(\w+)\]")


def described(name: str, thing: object) -> list[str]:
    """Return the lines about a public name: its signature, and those of its public members."""
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return [f"{name}.{member} = {thing[member].value!r}" for member in thing.__members__]
    if not inspect.isclass(thing):
        return [f"{name}{_signature(thing)}", *_options(thing)] if callable(thing) else [name]
    members = {key: value for cls in reversed(_own(thing)) for key, value in vars(cls).items() if key[0] != "_"}
    lines = {key: _member(key, value) for key, value in members.items()}
    lines |= {key: [f".{key}{type_}"] for key, type_ in _attributes(thing).items() if key not in lines}
    return [
        f"{name}{_signature(thing)}",
        *_options(thing.__init__),
        *(f"  {line}".replace("\n", "\n  ") for key in sorted(lines) for line in lines[key]),
    ]


def _own(cls: type) -> list[type]:
    return [one for one in cls.__mro__ if one.__module__.startswith("unitrain")]


def _attributes(cls: type) -> dict[str, str]:
    """Return the annotated and the documented attributes, with the types of those that are annotated."""
    found: dict[str, str] = {}
    for one in reversed(_own(cls)):
        for text in _ATTRIBUTES.findall(inspect.cleandoc(one.__doc__ or "") + "\n"):
            found |= dict.fromkeys(re.findall(r"^    (\w+):", text, re.MULTILINE), "")
        found |= {key: f": {_text(value)}" for key, value in vars(one).get("__annotations__", {}).items()}
    return {key: type_ for key, type_ in found.items() if key[0] != "_"}


def _member(name: str, member: object) -> list[str]:
    if isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    if isinstance(member, property):
        type_ = getattr(member.fget, "__annotations__", {}).get("return")
        return [f".{name}" + ("" if type_ is None else f": {_text(type_)}") + _deprecation(member.fget)]
    if inspect.isfunction(member):
        return [f".{name}{_signature(member)}{_deprecation(member)}", *(f"  {one}" for one in _options(member))]
    return [f".{name}" + (f" = {member!r}" if isinstance(member, (str, int, float, bool)) else "")]


def _deprecation(function: object) -> str:
    found = getattr(function, "__deprecation__", None)
    return "" if found is None else f"  # deprecated since {found.since}, removed in {found.remove}"


def _signature(thing: object) -> str:
    signature = inspect.signature(thing)
    # without the quotes that the text of an annotation would have
    bare = [
        one.replace(annotation=_annotation(one.annotation), default=_default(one.default))
        for one in signature.parameters.values()
    ]
    is_told = not inspect.isclass(thing)
    returned = _annotation(signature.return_annotation) if is_told else inspect.Signature.empty
    return _wrapped(signature.replace(parameters=bare, return_annotation=returned))


def _wrapped(signature: inspect.Signature) -> str:
    """Return a signature in one line, or with a line for each parameter, so that a diff shows which has changed."""
    text = str(signature)
    if len(text) <= _WIDTH:
        return text
    opened, *closed = text[1:].rpartition(")")
    shown = [str(one) for one in signature.parameters.values()]
    keyword = next((at for at, one in enumerate(signature.parameters.values()) if one.kind is one.KEYWORD_ONLY), None)
    if keyword is not None and "*, " in opened:
        shown.insert(keyword, "*")
    return "".join(["(\n", *(f"    {one},\n" for one in shown), *closed])


class _Plain:
    """A text whose ``repr`` is the text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _annotation(given: object) -> object:
    return given if given is inspect.Parameter.empty else _Plain(_text(given))


def _text(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(given: object) -> object:
    """Return the default, or dots for one whose text has an address."""
    return _Plain("...") if " at 0x" in repr(given) else given


def _options(function: object) -> list[str]:
    """Return the options behind ``**options: Unpack[...]``, which a signature does not show."""
    every = inspect.signature(function).parameters.values() if callable(function) else ()
    names = [_OPTIONS.search(_text(one.annotation)) for one in every if one.kind is one.VAR_KEYWORD]
    return [line for name in names if name for line in _of_dictionary(name[1])]


def _of_dictionary(name: str) -> list[str]:
    modules = [module for key, module in sorted(sys.modules.items()) if key.startswith("unitrain")]
    found = {id(one): one for one in (getattr(module, name, None) for module in modules) if is_typeddict(one)}
    (dictionary,) = found.values()
    return [f"  {name}: {key}: {_forward(value)}" for key, value in dictionary.__annotations__.items()]


def _forward(annotation: Any) -> str:
    return getattr(annotation, "__forward_arg__", None) or _text(annotation)


def of_command_line() -> list[str]:
    """Return the commands, each with its arguments and options."""
    return [line for name in commands.COMMANDS for line in of_parser(f"unitrain {name}", _parser(name))]


def _parser(name: str) -> argparse.ArgumentParser:
    top = commands.parser(name)
    found = next(one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = found.choices[name]
    return parser


def of_parser(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the lines about a command."""
    actions = [one for one in parser._actions if one.help != argparse.SUPPRESS]
    positional = [f"  {_of_action(one)}" for one in actions if not one.option_strings]
    return [name, *positional, *sorted(f"  {_of_action(one)}" for one in actions if one.option_strings)]


def _of_action(action: argparse.Action) -> str:
    spelled = ", ".join(action.option_strings) or action.dest
    type_ = action.type.__name__ if inspect.isclass(action.type) else "VALUE"
    takes = "" if action.nargs == 0 else f" {type_}{action.nargs or ''}"
    choices = f" of {', '.join(map(str, action.choices))}" if action.choices else ""
    default = "" if action.default in (None, False, argparse.SUPPRESS) else f" = {action.default}"
    required = ", required" if action.required and action.option_strings else ""
    return f"{spelled}{takes}{choices}{default}{required}"


def text() -> str:
    """Return the page."""
    lines = [
        line for name in unitrain.__all__ if name != "__version__" for line in described(name, getattr(unitrain, name))
    ]
    for module, names in DEEP.items():
        home = importlib.import_module(module)
        lines += [line for name in names for line in described(f"{module}.{name}", getattr(home, name))]
    return "\n".join([*lines, *of_command_line()]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.name}: {PAGE.write_text(text())} characters\n")
