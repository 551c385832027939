"""The handle of a service that runs beside a script."""

from __future__ import annotations

import atexit
import os
import shutil
from typing import TYPE_CHECKING, Any, Final, Self

from unitrain.serving.plan import Child, Plan

if TYPE_CHECKING:
    from pathlib import Path

_GRACE: Final = 5.0


class ModelServer:
    """A service in a process of its own, which ends with this one.

    Attributes:
        url: Its address.

    Args:
        plan: What it serves.
        folder: Is removed at the end; for files that were made for it.

    Raises:
        ConfigError: If it cannot start.
    """

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        self._plan, self._folder, self._owner = plan, folder, os.getpid()
        self._child: Child | None = Child(plan)
        atexit.register(self.stop)
        try:
            self.url: str = self._child.ready()["url"]
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int | None:
        """The number of its process; None once it was stopped."""
        return None if self._child is None else self._child.process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._child is not None and self._child.process.poll() is None

    def stop(self) -> None:
        """Finish what was accepted, and end; to stop twice does nothing."""
        child, self._child = self._child, None
        if child is None:
            return
        atexit.unregister(self.stop)
        if os.getpid() != self._owner:
            return  # a fork of the script, which ends; the service is not its own
        config = self._plan.config
        child.terminate()
        child.join(config.drain_delay + config.drain_timeout + _GRACE)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"ModelServer({self.url!r}, models={list(self._plan.models)}, {state})"

    def __reduce__(self) -> Any:
        """Refuse to be copied: the process cannot be.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a ModelServer cannot be pickled or copied; pass its url.")
