"""Redirects Trainers created by a script to another backend."""

from __future__ import annotations

import inspect
import sys
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from unitrain.backends.registry import find_adapter
from unitrain.config import TrainerConfig
from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.lightning.imports import when_imported
from unitrain_bridges.lightning.namespace import Parts
from unitrain_bridges.lightning.opening import Opening
from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.trainer import StandInTrainer
from unitrain_lightning._compat import ROOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import Adapter

_OWN = ("unitrain", "unitrain_lightning", "unitrain_bridges")
"""Packages that store the real class under their own name."""


@contextmanager
def redirected(framework: str) -> Iterator[None]:
    """Replace every module attribute that refers to Lightning's ``Trainer`` with a stand-in.

    Meanwhile creating the real Trainer raises, so that nothing uses it unnoticed. A package is patched once the script
    imports it: importing both packages here would change, for example, which of them logs.

    Args:
        framework: The backend that runs the scripts' training; on ``"lightning"`` nothing is replaced.
    """
    adapter = find_adapter(framework)
    with ExitStack() as stack:
        if adapter.name != HOME:
            for root in ROOTS:
                when_imported(stack, root, partial(_replace, stack, root, adapter))
        yield


def _replace(stack: ExitStack, root: str, adapter: Adapter) -> None:
    parts = Parts(root)
    original = parts.Trainer  # looked up before it is replaced
    made = _stand_in(parts, adapter)
    _MADE[root, adapter.name] = made
    stack.callback(_exchange, root, made, original)
    _exchange(root, original, made)
    _refuse(stack, original, adapter.name, "a real Trainer", "create Trainer(...) by its public Lightning name.")


_MADE: dict[tuple[str, str], Any] = {}
"""The stand-in classes by package and backend, for copying and unpickling their objects."""


def _exchange(root: str, old: type, new: type) -> None:
    """Replace one class with another in all modules and in LightningCLI's defaults."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OWN:
            continue
        for attribute in [one for one, value in list(getattr(module, "__dict__", {}).items()) if value is old]:
            setattr(module, attribute, new)
    cli = sys.modules.get(f"{root}.cli")
    if cli is not None:
        _exchange_default(cli.LightningCLI.__init__, old, new)


def _exchange_default(function: Any, old: type, new: type) -> None:
    function.__defaults__ = tuple(new if one is old else one for one in function.__defaults__)


def _refuse(stack: ExitStack, cls: Any, framework: str, what: str, hint: str) -> None:
    """Make creating an object of ``cls`` raise."""
    original = cls.__init__

    @wraps(original)
    def refused(*_: Any, **__: Any) -> None:
        raise UnsupportedFeatureError(f"{what} only runs on 'lightning', not on {framework!r}.", hint=hint)

    stack.callback(setattr, cls, "__init__", original)
    cls.__init__ = refused


def _stand_in(parts: Parts, adapter: Adapter) -> type:
    """Return a class with the signature of ``Trainer`` whose objects train on ``adapter``."""
    signature = inspect.signature(parts.Trainer.__init__)

    def __init__(self: Any, *given: Any, **options: Any) -> None:  # noqa: N807
        try:
            bound = signature.bind(self, *given, **options).arguments
        except TypeError as error:
            raise TypeError(f"Trainer.__init__() {error}") from None  # as Python says it of the class itself
        arguments = {name: value for name, value in bound.items() if name != "self"}
        StandInTrainer.__init__(self, parts, arguments, adapter.name, Opening(adapter, TrainerConfig()))

    def __reduce_ex__(self: Any, protocol: Any) -> Any:  # noqa: N807
        if type(self) is not made:
            return object.__reduce_ex__(self, protocol)
        return _empty, (parts.root, adapter), self.__getstate__()

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__doc__ = parts.Trainer.__init__.__doc__  # what a command line shows
    named = {"__module__": parts.Trainer.__module__, "__doc__": parts.Trainer.__doc__}
    own = {"__init__": __init__, "__reduce_ex__": __reduce_ex__, **named}
    calls = {name: _under_its_signature(parts.Trainer, name) for name in ("fit", "validate", "test", "predict")}
    made = type("Trainer", (StandInTrainer,), own | calls)
    return made


def _empty(root: str, adapter: Adapter) -> Any:
    """Return an empty stand-in of the last redirection's class, for copying and unpickling."""
    key = root, adapter.name
    if key not in _MADE:
        _MADE[key] = _stand_in(Parts(root), adapter)
    made = _MADE[key]
    return made.__new__(made)


def _under_its_signature(trainer: type, name: str) -> Any:
    """Return the stand-in's method with Lightning's signature and docstring, from which LightningCLI builds options."""
    own = getattr(StandInTrainer, name)

    @wraps(getattr(trainer, name))
    def method(self: Any, *given: Any, **options: Any) -> Any:
        return own(self, *given, **options)

    return method
