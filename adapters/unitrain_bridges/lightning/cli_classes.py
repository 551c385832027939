"""The classes that a file of LightningCLI is for, which its script may have named."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain_lightning._compat import ROOTS, default_root
from unitrain_lightning.namespace import root_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.foreign import FrameworkFiles

_SCRIPT = "__main__."


@dataclass(frozen=True)
class Classes:
    """The classes of a command line.

    Attributes:
        model: The class that the script named, ``LightningCLI(Net)``, so that the file has only its arguments; None if
            the file names the class.
        data: As ``model``, for the data.
        arguments: The arguments of the command line, without those that name these classes.
        root: Which of Lightning's packages the model's class is of.
    """

    model: Any
    data: Any
    arguments: tuple[str, ...]
    root: str

    @classmethod
    def of(cls, files: FrameworkFiles) -> Classes:
        """Return the classes of files and arguments.

        Raises:
            ConfigError: If a class is needed and not named, or cannot be imported.
        """
        model = _Section.of("model", files, files.arguments)
        model.require_class(files)
        data = _Section.of("data", files, model.arguments)
        data.require_class(files)
        named = model.imported(files.name)
        return cls(
            named if model.fixed else None,
            data.imported(files.name) if data.fixed else None,
            data.arguments,
            next(filter(None, map(root_of, getattr(named, "__mro__", ()))), None)
            or _mentioned(files)
            or default_root(),
        )


@dataclass(frozen=True)
class _Section:
    """What files and arguments say of one class.

    Attributes:
        key: ``"model"`` or ``"data"``.
        path: Where the class is; None if nothing names it.
        fixed: Whether the files have only its arguments, as if a script named the class.
        bare: Whether they have arguments, and nothing names the class.
        arguments: The arguments of the command line; without the class if it is fixed.
    """

    key: str
    path: str | None
    fixed: bool
    bare: bool
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, key: str, files: FrameworkFiles, arguments: tuple[str, ...]) -> _Section:
        found = [one for one in _sections(key, files) if one is not None]
        own = next((path for path in map(_class_path, reversed(found)) if path), None)
        named, rest = taken(f"--{key}", arguments)
        fixed = bool(found) and own is None and named is not None
        return cls(key, named or own, fixed, bool(found) and (named or own) is None, rest if fixed else arguments)

    def require_class(self, files: FrameworkFiles) -> None:
        """Raise if the class is missing, or is one of a script.

        Raises:
            ConfigError: In that case.
        """
        if self.path is None and (self.bare or self.key == "model"):
            raise ConfigError(
                f"{files.name}: {self.key} has no class_path: its script named the class, LightningCLI(Net, Data).",
                hint=f"name it: --{self.key} mypackage.MyClass",
            )
        if self.path is not None and self.path.startswith(_SCRIPT):
            raise ConfigError(
                f"{files.name}: {self.key}: {self.path} is a class of the script that wrote the file.",
                hint="unitrain run SCRIPT --framework NAME -- fit --config FILE, or move the class to a module.",
            )

    def imported(self, name: str) -> Any:
        """Return the class; None if its path is only a name, which LightningCLI looks up itself.

        Raises:
            ConfigError: If it cannot be imported.
        """
        module, _, attribute = (self.path or "").rpartition(".")
        if not module:
            return None
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:
            raise ConfigError(
                f"{name}: {self.key}: cannot import {self.path}: {type(error).__name__}: {error}",
                hint="class paths are as in `import`, from the current folder or an installed package.",
            ) from error


def _sections(key: str, files: FrameworkFiles) -> Iterator[Any]:
    for contents in files.contents:
        for place in (contents, contents.get(files.stage)):
            if isinstance(place, dict) and key in place:
                yield place[key]


def _class_path(section: Any) -> str | None:
    """Return the class that a section names: in ``class_path``, or by itself."""
    path = section.get("class_path") if isinstance(section, dict) else section
    return path if isinstance(path, str) else None


def taken(option: str, arguments: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the last value of an option, and the arguments without it."""
    found, rest, given = None, [], iter(arguments)
    for one in given:
        name, equals, value = one.partition("=")
        if name == option:
            found = value if equals else next(given, None)
        else:
            rest.append(one)
    return found, tuple(rest)


def _mentioned(files: FrameworkFiles) -> str | None:
    """Return the package that a class path of the files is of, such as that of a callback."""
    paths = [path for contents in files.contents for path in _paths(contents)]
    return next((root for root in ROOTS if any(path.startswith(f"{root}.") for path in paths)), None)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"]
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one)
