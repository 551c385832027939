"""Rejects Trainer arguments that another backend does not support."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.lightning.supported import ARGUMENTS, CALLBACKS, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unitrain_bridges.lightning.namespace import Parts


def check_arguments(parts: Parts, given: Mapping[str, Any], framework: str) -> dict[str, Any]:
    """Return all arguments of a Trainer, the given ones and Lightning's defaults.

    Raises:
        UnsupportedFeatureError: If one acts on Lightning only.
        TypeError: If there is no such argument, as Lightning raises.
    """
    signature = inspect.signature(parts.Trainer.__init__)
    defaults = {name: one.default for name, one in signature.parameters.items() if name != "self"}
    for name in given:
        if name not in defaults:
            raise TypeError(f"Trainer.__init__() got an unexpected keyword argument {name!r}")
    given = {**vars(parts.parse_env_variables(parts.Trainer)), **given}
    for name, fix in ARGUMENTS.items():
        if given.get(name) and given[name] != defaults.get(name):
            raise _refused(f"Trainer({name}={given[name]!r})", framework, fix)
    strategy = given.get("strategy", "auto")
    if strategy not in STRATEGIES and not isinstance(strategy, parts.SingleDeviceStrategy):
        raise _refused(f"Trainer(strategy={strategy!r})", framework, 'strategy="auto", or framework="lightning".')
    return {**defaults, **given}


def refuse_callbacks(callbacks: Iterable[Any], framework: str) -> None:
    """Refuse callbacks that run the Trainer's loops themselves.

    Raises:
        UnsupportedFeatureError: With the callback and a hint.
    """
    for callback in callbacks:
        for cls in type(callback).__mro__:
            if cls.__name__ in CALLBACKS:
                raise _refused(f"the callback {type(callback).__name__}", framework, CALLBACKS[cls.__name__])


def _refused(what: str, framework: str, fix: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(f"{what} only works on 'lightning', not on {framework!r}.", hint=fix)
