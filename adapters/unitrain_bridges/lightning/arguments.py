"""Rejects Trainer arguments that another backend does not support."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.lightning.supported import ARGUMENTS, ENVIRONMENT, PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain_bridges.lightning.namespace import Parts


def check_arguments(parts: Parts, given: Mapping[str, Any], framework: str, owner: type) -> dict[str, Any]:
    """Return all arguments of a Trainer: the given ones, those of environment variables and Lightning's defaults.

    Args:
        parts: The parts of the Lightning that is in use.
        given: The given arguments of the Trainer, by name.
        framework: The backend that runs.
        owner: The class that is made; the variables are named after it.

    Raises:
        UnsupportedFeatureError: If one acts on Lightning only.
        TypeError: If there is no such argument, as Lightning raises.
    """
    signature = inspect.signature(parts.Trainer.__init__)
    defaults = {name: one.default for name, one in signature.parameters.items() if name != "self"}
    for name in given:
        if name not in defaults:
            raise TypeError(f"Trainer.__init__() got an unexpected keyword argument {name!r}")
    asked = {**vars(parts.parse_env_variables(owner)), **given}
    for name, fix in ARGUMENTS.items():
        if asked.get(name) and asked[name] != defaults.get(name):
            raise _refused(_told(name, asked, given, owner), framework, fix)
    strategy = asked.get("strategy", "auto")
    if strategy not in STRATEGIES and not isinstance(strategy, parts.SingleDeviceStrategy):
        raise _refused(_told("strategy", asked, given, owner), framework, 'strategy="auto", or framework="lightning".')
    return {**defaults, **asked}


def refuse_processes(parts: Parts, strategy: Any, asked: Mapping[str, Any], framework: str) -> None:
    """Refuse arguments with which Lightning would start further processes.

    Args:
        parts: The parts of the Lightning that is in use.
        strategy: The strategy that Lightning created from the arguments.
        asked: All arguments of a Trainer.
        framework: The backend that runs.

    Raises:
        UnsupportedFeatureError: If it is not a strategy for a single device.
    """
    if isinstance(strategy, parts.SingleDeviceStrategy):
        return
    given = " and ".join(f"{name}={asked[name]!r}" for name in ("devices", "strategy"))
    raise UnsupportedFeatureError(
        f"{given} select {type(strategy).__name__}, but {framework!r} runs a LightningModule on one device.",
        hint=f"devices=1, or framework='lightning'; {ENVIRONMENT}* variables of the environment are arguments too.",
    )


def refuse_plugin(plugin: Any, framework: str) -> None:
    """Refuse a precision plugin that belongs to another strategy, or to hardware on which it was never compared.

    Args:
        plugin: The plugin that Lightning created from the arguments.
        framework: The backend that runs.

    Raises:
        UnsupportedFeatureError: With its name.
    """
    for one in type(plugin).__mro__:
        if one.__name__ in PLUGINS:
            raise _refused(f"the plugin {type(plugin).__name__}", framework, PLUGINS[one.__name__])


def _told(name: str, asked: Mapping[str, Any], given: Mapping[str, Any], owner: type) -> str:
    """Return an argument as it was given, in the script or by a variable of the environment."""
    if name in given:
        return f"Trainer({name}={asked[name]!r})"
    return f"the environment variable PL_{owner.__name__.upper()}_{name.upper()}={asked[name]!r}"


def _refused(what: str, framework: str, fix: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(f"{what} only works on 'lightning', not on {framework!r}.", hint=fix)


def clip_algorithm(parts: Parts, given: Mapping[str, Any]) -> Any:
    """Return the clipping algorithm; None if it is not set.

    Raises:
        TypeError: If the value is not a number, as in Lightning.
        MisconfigurationException: If there is no such algorithm, as Lightning raises.
    """
    value, algorithm, known = given["gradient_clip_val"], given["gradient_clip_algorithm"], parts.GradClipAlgorithmType
    if value is not None and not isinstance(value, (int, float)):
        raise TypeError(f"`gradient_clip_val` should be an int or a float. Got {value}.")
    if algorithm is None:
        return None
    if not known.supported_type(algorithm.lower()):
        raise parts.MisconfigurationException(
            f"`gradient_clip_algorithm` {algorithm} is invalid. Allowed algorithms: {known.supported_types()}."
        )
    return known(algorithm.lower())
