"""Finds what a ``class_path`` names: a class or a function."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.errors import did_you_mean
from unitrain.utilities.secrets import without_secrets
from unitrain.utilities.signature import shown
from unitrain.utilities.user_code import user_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from unitrain.cli.configuration.places import Key, Places


def found(path: Any, key: Key, places: Places) -> Callable[..., Any]:
    """Return the class or function with a dotted name.

    Args:
        path: The given name: ``"torch.optim.AdamW"``.
        key: The key that has it.
        places: Where the configuration was given.

    Raises:
        ConfigError: If there is no such thing, its module cannot be imported, or it cannot be called.
    """
    words = path.split(".") if isinstance(path, str) else []
    if len(words) < 2 or not all(word.isidentifier() for word in words):  # noqa: PLR2004 - a module and a name
        raise places.refusal(
            key,
            f"must be the name of a class or function with its module; got {shown(path)}.",
            "class_path: torch.optim.AdamW; of your own file model.py, model.Net.",
        )
    thing: Any = _imported(words[0], key, places)
    for end, word in enumerate(words[1:], start=1):
        if not hasattr(thing, word) and inspect.ismodule(thing) and hasattr(thing, "__path__"):
            _imported(".".join(words[: end + 1]), key, places, within=thing)
        if not hasattr(thing, word):
            names = [name for name in dir(thing) if not name.startswith("_")]
            raise places.refusal(key, f"{'.'.join(words[:end])} has no {word!r}.", _near(word, names))
        thing = getattr(thing, word)
    if not callable(thing):
        raise places.refusal(
            key, f"{path} is a {type(thing).__name__}, which is neither a class nor a function.", "name a class."
        )
    return thing  # type: ignore[no-any-return]


def _near(given: str, names: list[str]) -> str:
    """Return a hint with the nearest name; a module has too many to list them all."""
    same = next((name for name in names if name.lower() == given.lower()), None)
    hint = did_you_mean(given, names if same is None else [same])
    return hint if hint.startswith("did you mean") else "check the spelling, and the installed release."


def _imported(name: str, key: Key, places: Places, within: Any = None) -> Any:
    """Import a module; a missing one is only an error if it is the first of the name."""
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # a module may do anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            if within is not None:
                return None
            raise places.refusal(
                key,
                f"there is no module {name!r}.",
                "run the command in the folder of the file, or install the package.",
            ) from error
        raise places.refusal(
            key, f"the module {name!r} could not be imported: {told(error)}.", "correct the module."
        ) from error


def told(error: BaseException) -> str:
    """Return an error of other people's code in one line: its kind, its text and the user's line that led to it."""
    text = without_secrets(" ".join(str(error).split()))
    kind = type(error).__name__
    line = None if isinstance(error, SyntaxError) else user_line(error)  # which has its own
    where = "" if line is None else f" (at {line})"
    return f"{kind}: {text}{where}" if text else f"{kind}{where}"
