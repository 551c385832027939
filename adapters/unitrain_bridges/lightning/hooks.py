"""Calls the hooks of a module, its callbacks and its datamodule as Lightning does, and tells ``self.log`` which."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import Any


class Hooks:
    """The hooks of one run; which hook runs is kept on the module, where ``self.log`` looks for its defaults.

    Args:
        trainer: What the module sees as its Trainer.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._call = trainer.parts.call

    def callbacks(self, name: str, *arguments: Any, **options: Any) -> None:
        """Call a hook of all callbacks; ``monitoring_callbacks=`` chooses those that monitor, or the others."""
        self._call._call_callback_hooks(self._trainer, name, *arguments, **options)

    def module(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a hook of the module."""
        return self._call._call_lightning_module_hook(self._trainer, name, *arguments, **options)

    def strategy(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the strategy, which is what takes a batch to its device and calls the module's steps."""
        return self._call._call_strategy_hook(self._trainer, name, *arguments, **options)

    def both(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, then the module's, and return what that returns."""
        self.callbacks(name, *arguments)
        return self.module(name, *arguments)

    def all(self, name: str, *arguments: Any) -> Any:
        """Call a hook of the callbacks, the module and the strategy."""
        returned = self.both(name, *arguments)
        self.strategy(name, *arguments)
        return returned
