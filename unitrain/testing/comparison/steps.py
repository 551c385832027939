"""Sees each step of each optimizer of the process, whoever calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from unitrain.optim.optimizers import needs_closure

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    Act = Callable[[Optimizer], None]


def _nothing(_: Optimizer) -> None:
    """Do nothing."""


class Steps:
    """Calls functions around each step of an optimizer.

    Args:
        complete: Called with the gradients complete. That is right before a step; a closure computes them within the
            step, so there it is right after.
        before: Called before each step.
        after: Called after each step.
        closures: Whether any closure computes gradients. Lightning gives one that does nothing to each optimizer, so
            for a spec only that of an optimizer which needs one counts.
    """

    def __init__(self, complete: Act, before: Act = _nothing, after: Act = _nothing, *, closures: bool = False) -> None:
        self._complete, self._on_step, self._on_end = complete, before, after
        self._closures = closures
        self._handles = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]

    def leave(self) -> None:
        """Remove the hooks."""
        for one in self._handles:
            one.remove()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._on_step(optimizer)
        if not self._is_late(optimizer, args, kwargs):
            self._complete(optimizer)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_late(optimizer, args, kwargs):
            self._complete(optimizer)
        self._on_end(optimizer)

    def _is_late(self, optimizer: Optimizer, args: Any, kwargs: Any) -> bool:
        """Return whether the gradients are computed within the step."""
        given = any(callable(one) for one in (*args, kwargs.get("closure")))
        return needs_closure(optimizer) or (self._closures and given)
