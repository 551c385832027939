"""Arguments of `tune()`, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unitrain.config import TrainerConfig
from unitrain.errors import ConfigError, refuse_unknown

_OWN_OPTIONS = {"seed": "seed=", "default_root_dir": "dirpath="}
"""Options of the trainer that ``tune`` sets, and its own arguments for them."""


def names(given: Any, argument: str, example: str) -> tuple[str, ...]:
    """Return one string or several as a tuple.

    Raises:
        ConfigError: If one of them is not a string.
    """
    several = (given,) if isinstance(given, str) or not isinstance(given, Sequence) else tuple(given)
    wrong = [one for one in several if not isinstance(one, str) or not one]
    if wrong or not several:
        raise ConfigError(f"tune({argument}=) must be a name or a list of names; got {given!r}.", hint=example)
    return several


def parameters(given: Any) -> tuple[Any, ...]:
    """Return the parameters of the first trials as a tuple.

    Raises:
        ConfigError: If they are not a list.
    """
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise ConfigError(f"tune(warm_start=) takes a list of dicts; got {given!r}.", hint='warm_start=[{"lr": 0.1}]')
    return tuple(given)


def whole(name: str, given: Any, least: int) -> int:
    """Return an integer.

    Raises:
        ConfigError: If it is not an integer, or too small.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ConfigError(
            f"tune({name}=) must be an integer of at least {least}; got {given!r}.", hint=f"{name}={max(least, 2)}"
        )
    return given


def require_options(options: Mapping[str, Any]) -> None:
    """Refuse a trainer option that is unknown or that ``tune`` sets itself.

    Raises:
        ConfigError: If there is one; the message names the argument to use.
    """
    for name, instead in _OWN_OPTIONS.items():
        if name in options:
            raise ConfigError(f"trainer={{{name!r}: ...}}: tune() sets it for each trial.", hint=instead)
    refuse_unknown(options, TrainerConfig.__dataclass_fields__, "trainer=", ConfigError)
