"""Calls the hooks of a module, its callbacks and its datamodule as Lightning does, and tells ``self.log`` the hook."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import logging
from typing import Any

from unitrain_bridges.lightning.stock import does_nothing, stock


class Hooks:
    """The hooks of one run; the module stores the running hook, from which ``self.log`` takes its defaults.

    Lightning opens a profiler's context and writes a debug line for each call. Where neither is used, the hooks are
    called without them, and those of Lightning's classes that do nothing not at all.

    Attributes:
        lean: Whether neither is used, as of the last ``look``.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._strategy = trainer.strategy
        self._parts = trainer.parts
        self._callback = trainer.parts.Callback
        self._module = trainer.parts.LightningModule
        self._silent: dict[tuple[type, str], Any] = {}
        self.lean = False

    def look(self) -> None:
        """Determine whether a profiler records each call; checked at the start of a stage and of each batch."""
        self.lean = not self.observed()
        for (base, name), function in self._silent.items():
            if function is not None and getattr(base, name) is not function:  # somebody has replaced it since
                self._silent.clear()
                break

    def observed(self) -> bool:
        """Return whether a profiler or the debug log takes note of each hook, so that Lightning must call it."""
        trainer = self._trainer
        return (
            not trainer.short_way
            or type(trainer.profiler) is not self._parts.PassThroughProfiler
            or self._parts.call.log.isEnabledFor(logging.DEBUG)
        )

    def callbacks(self, name: str, *arguments: Any, **options: Any) -> None:
        """Call a hook of all callbacks; ``monitoring_callbacks=`` chooses those that monitor, or the others."""
        if options or not self.lean:
            self._parts.call._call_callback_hooks(self._trainer, name, *arguments, **options)
            return
        trainer, key = self._trainer, (self._callback, name)
        empty = self._silent[key] if key in self._silent else self._empty(key)
        for callback in trainer.callbacks:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", hook) is not empty and callable(hook):
                self._named(name, hook, (trainer, self._strategy._lightning_module, *arguments), {})

    def _empty(self, key: tuple[type, str]) -> Any:
        """Return a hook of a class of Lightning if it does nothing; None if it acts or somebody has replaced it."""
        base, name = key
        function = getattr(base, name, None)
        self._silent[key] = function if stock(function, name) and does_nothing(function) else None
        return self._silent[key]

    def module(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a hook of the module."""
        if not self.lean:
            return self._parts.call._call_lightning_module_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy._lightning_module, self._module, name, arguments, options)

    def strategy(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the strategy, which moves a batch to its device and calls the module's steps."""
        if not self.lean:
            return self._parts.call._call_strategy_hook(self._trainer, name, *arguments, **options)
        return self._called(self._strategy, self._parts.SingleDeviceStrategy, name, arguments, options)

    def _called(self, owner: Any, base: type, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        hook, key = getattr(owner, name), (base, name)
        empty = self._silent[key] if key in self._silent else self._empty(key)
        if getattr(hook, "__func__", self) is empty or not callable(hook):
            return None
        return self._named(name, hook, arguments, options)

    def _named(self, name: str, hook: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a hook while the module knows its name."""
        state = vars(self._strategy._lightning_module)
        before, state["_current_fx_name"] = state["_current_fx_name"], name
        returned = hook(*arguments, **options)
        state["_current_fx_name"] = before
        return returned

    def both(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, then the module's, and return the module's result."""
        self.callbacks(name, *arguments)
        return self.module(name, *arguments)

    def all(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, the module and the strategy."""
        returned = self.both(name, *arguments)
        self.strategy(name, *arguments)
        return returned
