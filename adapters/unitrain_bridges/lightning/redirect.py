"""Redirects Trainers created by a script to another backend."""

from __future__ import annotations

import inspect
import sys
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.backends.registry import find_adapter
from unitrain.config import TrainerConfig
from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.lightning.namespace import Parts
from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.trainer import StandInTrainer
from unitrain_lightning._compat import ROOTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from unitrain.backends.protocol import Adapter, Run

_OWN = ("unitrain", "unitrain_lightning", "unitrain_bridges")
"""Packages that store the real class under their own name."""


@contextmanager
def redirected(framework: str) -> Iterator[None]:
    """Put a stand-in for ``Trainer`` wherever the class is known by a name, in Lightning's packages and in others.

    The real one cannot be made meanwhile, so that nothing falls back to it unseen.

    Args:
        framework: The backend that is to run what scripts train meanwhile; on ``"lightning"`` nothing is replaced.
    """
    adapter = find_adapter(framework)
    with ExitStack() as stack:
        if adapter.name != HOME:
            for root in ROOTS:
                if _there(root):
                    _replace(stack, root, adapter)
        yield


def _there(root: str) -> bool:
    """Import one of the two packages, with its command line; they are installed one by one."""
    try:
        import_module(f"{root}.cli")
    except ModuleNotFoundError as missing:
        if missing.name != root.partition(".")[0]:
            raise
        return False
    return True


def _replace(stack: ExitStack, root: str, adapter: Adapter) -> None:
    parts = Parts(root)
    original = parts.Trainer  # looked up before it is replaced
    made = _stand_in(parts, adapter)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OWN:
            continue
        for attribute in [one for one, value in list(getattr(module, "__dict__", {}).items()) if value is original]:
            stack.callback(setattr, module, attribute, original)
            setattr(module, attribute, made)
    _refuse(stack, original, adapter.name, "a real Trainer", "create Trainer(...) by its public Lightning name.")
    _stand_in_by_default(stack, parts.LightningCLI.__init__, original, made)


def _stand_in_by_default(stack: ExitStack, function: Any, original: type, made: type) -> None:
    """Let a parameter be the stand-in by default; what it was is looked up by no name."""
    defaults = function.__defaults__
    stack.callback(setattr, function, "__defaults__", defaults)
    function.__defaults__ = tuple(made if one is original else one for one in defaults)


def _refuse(stack: ExitStack, cls: Any, framework: str, what: str, hint: str) -> None:
    """Let nobody make an object of ``cls``."""
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
        bound = signature.bind(self, *given, **options).arguments
        arguments = {name: value for name, value in bound.items() if name != "self"}

        def build(device: torch.device) -> Run:
            return adapter.build(TrainerConfig(), device, ())

        StandInTrainer.__init__(self, parts, arguments, adapter.name, build)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__doc__ = parts.Trainer.__init__.__doc__  # what a command line shows
    own = {"__init__": __init__, "__module__": parts.Trainer.__module__, "__doc__": parts.Trainer.__doc__}
    calls = {name: _under_its_signature(parts.Trainer, name) for name in ("fit", "validate", "test", "predict")}
    return type("Trainer", (StandInTrainer,), own | calls)


def _under_its_signature(trainer: type, name: str) -> Any:
    """Return the stand-in's method with the signature and the help of Lightning's; a command line is made of them."""
    own = getattr(StandInTrainer, name)

    @wraps(getattr(trainer, name))
    def method(self: Any, *given: Any, **options: Any) -> Any:
        return own(self, *given, **options)

    return method
