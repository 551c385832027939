"""Reads and writes YAML: YAML 1.2's scalars, the line of each key, no duplicate keys.

YAML 1.1, which PyYAML reads by default, makes a text of ``1e-3``, 2160000 of ``10:00:00:00`` and a truth value of
``on``; YAML 1.2 does not.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from unitrain.cli.configuration.places import Key, Place, Places, dotted
from unitrain.errors import ConfigError
from unitrain.utilities.files import user_path
from unitrain.utilities.secrets import without_secrets
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLOAT = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789"),
    ("float", _FLOAT.pattern, "-+0123456789."),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
)
"""Tag, pattern and first characters of each kind of plain scalar; everything else is a text."""
_VARIABLE = re.compile(r"\$\{[^}]*\}")
_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
_MOST = 100_000
"""How many values a file may have, each alias counted: a few lines of aliases can stand for billions."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's name
    yaml_constructors = {  # noqa: RUF012 - without dates, sets and bytes, which would not read back
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag.startswith(_TAGS)
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as another kind of value."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


for _tag, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _whole = re.compile(rf"(?:{_pattern})\Z", re.VERBOSE)
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _whole, [one.strip("\0") for one in _first])


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 10 if text.lstrip("+-").isdecimal() else 0)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


@dataclass(frozen=True)
class Document:
    """What a file says.

    Attributes:
        values: Its values.
        places: The line of each key.
    """

    values: dict[str, Any]
    places: dict[Key, Place]


def read(given: str | Path) -> Document:
    """Read a configuration file.

    Args:
        given: The path, as the user typed it.

    Raises:
        ConfigError: If there is no such file, or it is not a YAML mapping with each key once.
    """
    text = _text(given)
    try:
        with _loading(text) as loader:
            node = _mapping(given, loader.get_single_node())
            places = dict(_few(given, _checked(given, node, (), ())))
            return Document(_unshared(loader.construct_document(node)), places)
    except yaml.MarkedYAMLError as error:
        raise _invalid(given, text, error) from error
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{given} is not YAML: {' '.join(str(error).split())}.", hint=_EXAMPLE) from error


def _unshared(value: Any) -> Any:
    """Return a copy in which an alias has values of its own, so that a change of one leaves the other as it is."""
    if isinstance(value, dict):
        return {name: _unshared(one) for name, one in value.items()}
    return [_unshared(one) for one in value] if isinstance(value, list) else value


@contextmanager
def _loading(text: str) -> Iterator[_Loader]:
    loader = _Loader(text)
    try:
        yield loader
    finally:
        loader.dispose()


_EXAMPLE = "unitrain fit --config run.yaml; `unitrain init` writes an example."


def _text(given: str | Path) -> str:
    path = user_path(given)
    if not str(given):
        raise ConfigError("--config is empty: it is the path of a file.", hint=_EXAMPLE)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {given}.", hint=_EXAMPLE) from error
    except OSError as error:
        inside = path / "config.yaml"
        hint = f"--config {inside}" if inside.is_file() else _EXAMPLE
        raise ConfigError(f"{given} could not be read: {error.strerror}.", hint=hint) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{given} is not a text file: it is not valid UTF-8.", hint=_EXAMPLE) from error


def _mapping(given: str | Path, node: yaml.Node | None) -> yaml.MappingNode:
    if node is None:
        raise ConfigError(f"{given} is empty.", hint=_EXAMPLE)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{given}:{node.start_mark.line + 1}: a configuration is a mapping, such as `trainer: {{max_epochs: 5}}`;"
            f" got a {'list' if isinstance(node, yaml.SequenceNode) else 'single value'}.",
            hint=_EXAMPLE,
        )
    return node


def _invalid(given: str | Path, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    line = 1 if mark is None else mark.line + 1
    lines = text.splitlines()
    near = "\n".join(lines[max(0, line - 2) : line + 1])
    hint = "quote texts that contain any of : { } [ ] , # & * ! | > ' \" % @ `."
    if _VARIABLE.search(near) is not None:
        hint = 'variables such as ${DATA} are not replaced; pass the value on the command line: --KEY "$DATA".'
    elif "\t" in near:
        hint = "indent with spaces."
    return ConfigError(f"{given}:{line}: not valid YAML: {error.problem or error.context}.", hint=hint)


def _few(given: str | Path, found: Iterator[tuple[Key, Place]]) -> Iterator[tuple[Key, Place]]:
    for count, one in enumerate(found):
        if count > _MOST:
            raise ConfigError(f"{given} has too many values, more than {_MOST:,}.", hint="write fewer aliases (*name).")
        yield one


def _checked(given: str | Path, node: yaml.Node, key: Key, around: tuple[int, ...]) -> Iterator[tuple[Key, Place]]:
    """Yield the line of each key below ``node``, and refuse what is wrong.

    Raises:
        ConfigError: If a mapping has a key twice, or a value contains itself or a variable.
    """
    place = Place(str(given), node.start_mark.line + 1)
    if id(node) in around:
        raise ConfigError(f"{place}: {dotted(key)} contains itself.", hint="write its contents out.")
    yield key, place
    if isinstance(node, yaml.SequenceNode):
        for index, one in enumerate(node.value):
            yield from _checked(given, one, (*key, index), (*around, id(node)))
    elif isinstance(node, yaml.MappingNode):
        _refuse_twice(given, node, key)
        for name, one in node.value:
            below = key if name.value == "<<" else (*key, _name_of(name))
            yield from _checked(given, one, below, (*around, id(node)))
            yield below, Place(place.source, name.start_mark.line + 1)
    else:
        _refuse_variable(str(node.value), place, key)


def _name_of(node: yaml.Node) -> str | int:
    """Return the name of a key as the values have it: a whole number may be one."""
    text = str(node.value)
    return int(text) if node.tag.endswith(":int") and text.isdecimal() else text


def _refuse_twice(given: str | Path, node: yaml.MappingNode, key: Key) -> None:
    first: dict[str, int] = {}
    for name, _ in node.value:
        text, line = str(name.value), name.start_mark.line + 1
        if text in first and text != "<<":
            raise ConfigError(
                f"{Place(str(given), line)}: {dotted((*key, text))} is given twice, also in line {first[text]}.",
                hint="remove one of them.",
            )
        first[text] = line


def _refuse_variable(text: str, place: Place, key: Key) -> None:
    found = _VARIABLE.search(text)
    if found is not None:
        raise Places({(): place}).refusal(
            key,
            f"variables are not replaced; got {found.group()}.",
            f'pass the value on the command line: --{dotted(key)} "{found.group().replace("{", "").replace("}", "")}"',
        )


def parsed(text: str, option: str) -> Any:
    """Return the value of an option: a number, a truth value, a list, a mapping, or the text itself.

    Args:
        text: What was typed.
        option: The option, for messages.

    Raises:
        ConfigError: If it is empty, as an unset variable, or a list or a mapping that is not valid.
    """
    if not text.strip():
        raise ConfigError(f"{option} has an empty value.", hint="null means none, and '\"\"' an empty text.")
    _refuse_variable(text, Place(option), tuple(option.strip("-").split(".")))
    flow = text.lstrip()[:1] in ("{", "[")
    try:
        with _loading(text) as loader:
            node = loader.get_single_node()
            if node is None:
                return text
            for _ in _few(option, _checked(option, node, (), ())):
                pass
            found = _unshared(loader.construct_document(node))
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        if not flow:
            return text
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        hint = f"{option} '{{class_path: package.Class, init_args: {{size: 1}}}}'"
        said = without_secrets(shown(text))
        raise ConfigError(f"{option}: {said} is not valid YAML: {reason}.", hint=hint) from error
    return text if isinstance(found, (dict, list)) and not flow else found  # `a: b` is more likely meant as a text


def values_of(text: str) -> Any:
    """Return the values of YAML that a program wrote."""
    with _loading(text) as loader:
        return loader.get_single_data()


def text_of(values: Any) -> str:
    """Return values as YAML that reads back the same."""
    text: str = yaml.dump(
        values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
    return text
