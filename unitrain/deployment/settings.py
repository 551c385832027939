"""The settings of a provider: a frozen dataclass whose fields say what they are for."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import Field

_ABOUT: Final = "about"


@dataclass(frozen=True)
class About:
    """What is known about a setting.

    Attributes:
        help: One line for ``--help``.
        kind: Makes it of the text of a command line.
        is_place: Whether it says where to look, so that ``status`` and ``undeploy`` take it too.
        is_required: Whether there is no deployment without it; without a place there is nothing at all.
    """

    help: str
    kind: Callable[[str], Any]
    is_place: bool
    is_required: bool


def setting(help: str, *, default: Any = None, kind: Callable[[str], Any] = str, is_required: bool = False) -> Any:  # noqa: A002
    """Return a field that says what to deploy, such as the type of machine."""
    return field(default=default, metadata={_ABOUT: About(help, kind, is_place=False, is_required=is_required)})


def place(help: str, *, default: Any = None, kind: Callable[[str], Any] = str, is_required: bool = False) -> Any:  # noqa: A002
    """Return a field that says where things are, such as the region."""
    return field(default=default, metadata={_ABOUT: About(help, kind, is_place=True, is_required=is_required)})


def about(one: Field[Any]) -> About:
    """Return what is known about a field."""
    found: About = one.metadata[_ABOUT]
    return found


def checked(kind: type, given: Mapping[str, Any], provider: str, *, is_deploy: bool) -> Any:
    """Return the settings of a provider.

    Args:
        kind: The dataclass.
        given: The values by name; None counts as not given.
        provider: The provider's name, for messages.
        is_deploy: Whether they are for a deployment; if not, only places are accepted.

    Raises:
        DeployError: If one is unknown, missing, or has no meaning here.
    """
    known = {one.name: about(one) for one in fields(kind)}
    refuse_unknown(given, known, f"provider={provider!r}", DeployError)
    values = {name: value for name, value in given.items() if value is not None}
    idle = next((name for name in values if not (is_deploy or known[name].is_place)), None)
    if idle is not None:
        raise DeployError(f"{idle}= has a meaning for a deployment only.", hint="remove it.")
    missing = [name for name, one in known.items() if one.is_required and name not in values]
    missing = [name for name in missing if is_deploy or known[name].is_place]
    if missing:
        needed = "; ".join(f"{name}=: {known[name].help}" for name in missing)
        raise DeployError(f"provider={provider!r} needs {', '.join(missing)}.", hint=needed)
    return kind(**values)


def identity(settings: Any) -> dict[str, Any]:
    """Return the values that say what is deployed: another value makes another deployment."""
    return {one.name: getattr(settings, one.name) for one in fields(settings) if not about(one).is_place}


def as_options(settings: Any) -> str:
    """Return the places that were given as a command line has them, each after a space."""
    given = [
        (one.name, getattr(settings, one.name))
        for one in fields(settings)
        if about(one).is_place and getattr(settings, one.name) != one.default
    ]
    return "".join(f" --{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given)


def default_of(one: Field[Any]) -> str:
    """Return the default of a field for ``--help``, or an empty text."""
    return "" if one.default in (None, MISSING) else f"; default: {one.default}"
