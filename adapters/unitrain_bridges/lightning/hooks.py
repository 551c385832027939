"""Calls the hooks of a module, its callbacks and its datamodule as Lightning does, and tells ``self.log`` which."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import logging
from typing import Any

from unitrain_bridges.lightning.stock import does_nothing, stock


class Hooks:
    """The hooks of one run; which hook runs is kept on the module, where ``self.log`` looks for its defaults.

    Lightning opens a profiler's context and writes a debug line for each call. Where neither is used, the hooks are
    called without them, and those of Lightning's classes that do nothing not at all.

    Args:
        trainer: What the module sees as its Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._strategy = trainer.strategy
        self._parts = trainer.parts
        self._call = trainer.parts.call
        self._callback = trainer.parts.Callback
        self._module = trainer.parts.LightningModule
        self._known: dict[tuple[type, str], tuple[Any, Any]] = {}
        self._lean = False

    def look(self) -> None:
        """Find out whether anybody takes note of each call, as is done at the start of a stage and of each batch."""
        self._lean = not self.observed()

    def observed(self) -> bool:
        """Return whether a profiler or the debug log takes note of each hook, so that Lightning must call it."""
        trainer = self._trainer
        return (
            not trainer.short_way
            or type(trainer.profiler) is not self._parts.PassThroughProfiler
            or self._call.log.isEnabledFor(logging.DEBUG)
        )

    def callbacks(self, name: str, *arguments: Any, **options: Any) -> None:
        """Call a hook of all callbacks; ``monitoring_callbacks=`` chooses those that monitor, or the others."""
        if options or not self._lean:
            self._call._call_callback_hooks(self._trainer, name, *arguments, **options)
            return
        trainer, empty = self._trainer, self._empty(self._callback, name)
        module = self._strategy._lightning_module
        state = vars(module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        for callback in trainer.callbacks:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", hook) is not empty and callable(hook):
                hook(trainer, module, *arguments)
        state["_current_fx_name"] = before

    def _empty(self, base: type, name: str) -> Any:
        """Return the hook of Lightning's class ``base`` if it does nothing; None if it acts or has been replaced."""
        function = getattr(base, name, None)
        found, empty = self._known.get((base, name), (self, None))
        if found is not function:
            empty = function if stock(function, name) and does_nothing(function) else None
            self._known[base, name] = function, empty
        return empty

    def module(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a hook of the module."""
        if not self._lean:
            return self._call._call_lightning_module_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy._lightning_module, self._module, name, arguments, options)

    def strategy(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the strategy, which is what takes a batch to its device and calls the module's steps."""
        if not self._lean:
            return self._call._call_strategy_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy, self._parts.SingleDeviceStrategy, name, arguments, options)

    def _called(self, owner: Any, base: type, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        hook = getattr(owner, name)
        if getattr(hook, "__func__", self) is self._empty(base, name) or not callable(hook):
            return None
        state = vars(self._strategy._lightning_module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        returned = hook(*arguments, **options)
        state["_current_fx_name"] = before
        return returned

    def both(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, then the module's, and return what that returns."""
        self.callbacks(name, *arguments)
        return self.module(name, *arguments)

    def all(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, the module and the strategy."""
        returned = self.both(name, *arguments)
        self.strategy(name, *arguments)
        return returned
