"""Acts when a package has been imported, by whomever."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(stack: ExitStack, package: str, act: Callable[[], None]) -> None:
    """Call ``act`` at once if a package is imported, else when it is, as long as ``stack`` is open."""
    if package in sys.modules:
        act()
        return
    awaited = _Awaited(package, act)
    awaited.start()
    stack.callback(awaited.stop)


class _Awaited:
    """A finder of modules that finds what the others find, and is told when its package has been executed.

    Args:
        package: Its name.
        act: What to do then.
    """

    def __init__(self, package: str, act: Callable[[], None]) -> None:
        self._package = package
        self._act = act

    def start(self) -> None:
        """Be asked before the others."""
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Be asked no more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find the package as the others do; nothing else."""
        if name != self._package:
            return None
        self.stop()
        found = find_spec(name)
        if found is None or found.loader is None:
            self.start()
            return found
        loader: Any = found.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the class's own again
            try:
                execute(module)
            except BaseException:
                self.start()  # it may be tried again
                raise
            self._act()

        loader.exec_module = exec_module
        return found
