"""Calls the hooks of a module, its callbacks and its datamodule as Lightning does, and tells ``self.log`` which."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain_bridges.lightning.stock import stock

if TYPE_CHECKING:
    from collections.abc import Iterator


class Hooks:
    """The hooks of one run; which hook runs is kept on the module, where ``self.log`` looks for its defaults.

    Lightning opens a profiler's context and writes a debug line for each call. Where neither is used, the hooks are
    called without them, and the base class's empty hooks of callbacks not at all.

    Args:
        trainer: What the module sees as its Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._strategy = trainer.strategy
        self._call = trainer.parts.call
        self._base = trainer.parts.Callback
        self._known: dict[str, tuple[Any, Any]] = {}
        self._no_profiler = trainer.parts.PassThroughProfiler

    def observed(self) -> bool:
        """Return whether a profiler or the debug log takes note of each hook, so that Lightning must call it."""
        trainer = self._trainer
        return (
            not trainer.short_way
            or type(trainer.profiler) is not self._no_profiler
            or self._call.log.isEnabledFor(logging.DEBUG)
        )

    def callbacks(self, name: str, *arguments: Any, **options: Any) -> None:
        """Call a hook of all callbacks; ``monitoring_callbacks=`` chooses those that monitor, or the others."""
        if options or self.observed():
            self._call._call_callback_hooks(self._trainer, name, *arguments, **options)
            return
        trainer, empty = self._trainer, self._empty(name)
        module = self._strategy.lightning_module
        state = vars(module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        for callback in trainer.callbacks:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", hook) is not empty and callable(hook):
                hook(trainer, module, *arguments)
        state["_current_fx_name"] = before

    def _empty(self, name: str) -> Any:
        """Return the empty hook of Lightning's Callback; None if somebody has put another in its place."""
        function = getattr(self._base, name, None)
        found, empty = self._known.get(name, (self, None))
        if found is not function:
            empty = function if stock(function, name) else None
            self._known[name] = function, empty
        return empty

    def module(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a hook of the module."""
        if self.observed():
            return self._call._call_lightning_module_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy.lightning_module, name, arguments, options)

    def strategy(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the strategy, which is what takes a batch to its device and calls the module's steps."""
        if self.observed():
            return self._call._call_strategy_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy, name, arguments, options)

    def _called(self, owner: Any, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        hook = getattr(owner, name)
        if not callable(hook):
            return None
        state = vars(self._strategy.lightning_module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        returned = hook(*arguments, **options)
        state["_current_fx_name"] = before
        return returned

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Let ``self.log`` know that the hook ``name`` runs."""
        state = vars(self._strategy.lightning_module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        yield
        state["_current_fx_name"] = before

    def both(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, then the module's, and return what that returns."""
        self.callbacks(name, *arguments)
        return self.module(name, *arguments)

    def all(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, the module and the strategy."""
        returned = self.both(name, *arguments)
        self.strategy(name, *arguments)
        return returned
