"""What a process of a service is to do, and the processes that are started for it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.serving.options import ServiceConfig, service_config

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Plan:
    """What a process is to serve.

    Attributes:
        models: The files by name.
        config: The checked options.
        worker: The place of this process among the workers.
        listener: The number of the inherited socket; None to open one.
        block: The number of the inherited file of the shared memory; None for a single worker.
        expected: The descriptions of the models that the other workers serve, by name; None for the first ones.
        loads_first: Whether it accepts only once its models are loaded, because others answer meanwhile.
    """

    models: Mapping[str, Path]
    config: ServiceConfig
    worker: int = 0
    listener: int | None = None
    block: int | None = None
    expected: Mapping[str, Any] | None = None
    loads_first: bool = False

    def text(self) -> str:
        """Return it as one line."""
        own = {one: getattr(self, one) for one in ("worker", "listener", "block", "expected", "loads_first")}
        models = {name: str(path) for name, path in self.models.items()}
        return json.dumps({"models": models, "config": self.config.plain(), **own})

    @staticmethod
    def of_text(text: str) -> Plan:
        """Return the plan of ``text()``."""
        given = json.loads(text)
        models = {name: Path(path) for name, path in given.pop("models").items()}
        return Plan(models, service_config(given.pop("config")), **given)


class Child:
    """A started process.

    Args:
        plan: What it is to serve.
    """

    def __init__(self, plan: Plan) -> None:
        inherited = [one for one in (plan.listener, plan.block) if one is not None]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unitrain.serving.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C is for the starter, who tells the others
        )
        assert self.process.stdin is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(plan.text().encode() + b"\n")
            self.process.stdin.flush()

    def ready(self) -> dict[str, Any]:
        """Wait until it is ready, and return what it says.

        Raises:
            ConfigError: If it ends before.
        """
        assert self.process.stdout is not None  # noqa: S101 - for the type checker
        line = self.process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        if "url" in said:
            return said
        self.process.wait()
        raise ConfigError(
            said.get("error") or f"the service ended with status {self.process.returncode}; its log has the reason.",
            hint=said.get("hint"),
        )

    def terminate(self) -> None:
        """Ask it to drain and end."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def join(self, seconds: float) -> None:
        """Wait until it has ended; kill it after ``seconds``."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
