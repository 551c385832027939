"""Lets a script that makes a Trainer by itself train on another backend, unchanged."""

from __future__ import annotations

import inspect
import sys
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unitrain.config import TrainerConfig
from unitrain.registry import find_adapter
from unitrain_bridges.lightning.namespace import ROOTS, Parts
from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.sessions import hosts
from unitrain_bridges.lightning.shim import TrainerShim

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.protocol import Adapter

_PLACES = {
    "lightning.pytorch": (
        "lightning",
        "lightning.pytorch",
        "lightning.pytorch.trainer",
        "lightning.pytorch.trainer.trainer",
    ),
    "pytorch_lightning": ("pytorch_lightning", "pytorch_lightning.trainer", "pytorch_lightning.trainer.trainer"),
}
"""Where a script may take the class from."""


@contextmanager
def redirected(framework: str) -> Iterator[None]:
    """Put a stand-in for ``Trainer`` into Lightning's packages.

    Args:
        framework: The backend that is to run what scripts train meanwhile; on ``"lightning"`` nothing is replaced.
    """
    adapter = find_adapter(framework)
    with ExitStack() as stack:
        if adapter.name != HOME:
            for root in ROOTS:
                _replace(stack, root, adapter)
        yield


def _replace(stack: ExitStack, root: str, adapter: Adapter) -> None:
    try:
        import_module(root)
    except ModuleNotFoundError as missing:  # the two packages are installed one by one
        if missing.name != root.partition(".")[0]:
            raise
        return
    parts = Parts(root)
    original = parts.Trainer  # looked up before it is replaced
    made = _stand_in(parts, adapter)
    for place in _PLACES[root]:
        module = sys.modules.get(place)
        if module is not None and getattr(module, "Trainer", None) is original:
            stack.callback(setattr, module, "Trainer", original)
            module.Trainer = made  # type: ignore[attr-defined]


def _stand_in(parts: Parts, adapter: Adapter) -> type:
    """Return a class with the signature of ``Trainer`` whose objects train on ``adapter``."""
    signature = inspect.signature(parts.Trainer.__init__)

    def __init__(self: Any, *given: Any, **options: Any) -> None:  # noqa: N807
        bound = signature.bind(self, *given, **options).arguments
        arguments = {name: value for name, value in bound.items() if name != "self"}
        if isinstance(arguments.get("callbacks"), tuple):
            arguments["callbacks"] = list(arguments["callbacks"])
        TrainerShim.__init__(self, parts, arguments, adapter.name, hosts(adapter, TrainerConfig(), ()))

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    own = {"__init__": __init__, "__module__": parts.Trainer.__module__, "__doc__": parts.Trainer.__doc__}
    return type("Trainer", (TrainerShim,), own)
