"""Hooks that a program of Lightning 1 defines and Lightning 2 never calls: the author is told, once a run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from unitrain_bridges.lightning.upgrading import REVIVED
from unitrain_lightning.removed_hooks import RENAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def warn_of_dead_hooks(owners: Iterable[Any]) -> None:
    """Warn of each hook of a module, a datamodule or a callback that nobody calls any more."""
    for owner in owners:
        for name in dict.fromkeys(_dead(type(owner))):
            warnings.warn(
                f"Lightning 2 does not call {type(owner).__name__}.{name}. Hint: put it into {RENAMES[name]}.",
                stacklevel=2,
            )


def _dead(cls: type) -> Iterator[str]:
    """Yield the hooks that nobody calls; an upgraded class calls those of the classes below it."""
    revived: tuple[str, ...] = ()
    for one in cls.__mro__:
        revived = vars(one).get(REVIVED, revived)
        yield from (name for name in vars(one) if name in RENAMES and name not in revived)
