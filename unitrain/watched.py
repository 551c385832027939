"""What can be seen of a trainer, and said to its running fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError, SpecError
from unitrain.explain import explain
from unitrain.spec import TrainSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from unitrain.config import TrainerConfig
    from unitrain.context import RunContext
    from unitrain.distributed.world import World
    from unitrain.events import Event, EventHub, Handler, RunState, Trigger, Triggers
    from unitrain.explain import Explanation
    from unitrain.native import NativeCode
    from unitrain.protocol import Adapter, Run, Session


class Watched:
    """The part of a trainer that starts nothing."""

    config: TrainerConfig
    _adapter: Adapter
    _world: World | None
    _hub: EventHub
    _code: NativeCode
    _next: Run | None
    _last: Run | Session | None
    _spec: TrainSpec | None
    _optimizers: Mapping[str, Optimizer]

    def on(self, event: Event | Trigger | Triggers, handler: Handler | None = None) -> Any:
        """Call a handler at an event; use it as a decorator, or give the handler.

        Args:
            event: An Event, ``Event.EPOCH_END(every=2)``, or several joined by ``|``.
            handler: Takes the run, or nothing.
        """
        if handler is not None:
            self._hub.on(event, handler)
            return handler

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            self._hub.on(event, handler)
            return handler

        return decorate

    def explain(self, spec: TrainSpec | None = None) -> Explanation:
        """Print and return what every option became on this backend.

        Args:
            spec: Explain it too; by default the one that ran last.

        Raises:
            SpecError: If it is none; a framework's own code does as its framework does.
        """
        if spec is not None and not isinstance(spec, TrainSpec):
            raise SpecError(
                f"explain() explains a TrainSpec; got a {type(spec).__name__}.",
                hint=f"`unitrain migrate SCRIPT --check-backend {self.framework}` tells what a script may not use.",
            )
        explanation = explain(self._adapter, self.config, spec or self._spec)
        print(explanation)  # noqa: T201 - that is what it is for
        return explanation

    def stop(self) -> None:
        """Ask the running fit to end: its batch is finished, validation and EPOCH_END follow."""
        if self._code.running and self._code.session is not None:
            self._code.session.stop()
            return
        self._context("stop").stop()

    def log(self, name: str, value: Tensor | float) -> None:
        """Log a value into the running stage; see ``RunContext.log``."""
        self._context("log").log(name, value)

    @property
    def framework(self) -> str:
        """The name of the backend."""
        return self._adapter.name

    @property
    def state(self) -> RunState:
        """Where the fit is, or where the last one ended; an evaluation adds its metrics."""
        return self._hub.state

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``; None before there is one."""
        run = self._next or self._last
        return None if run is None else run.native

    @property
    def bridged(self) -> Any:
        """The trainer as a framework's own code sees it; None before such code has run.

        For a LightningModule it is ``self.trainer`` (on Lightning, the real one), for an Ignite program its engine.
        """
        return None if self._code.session is None else self._code.session.bridged

    @property
    def model(self) -> nn.Module | None:
        """The model of the last run; a LightningModule is one."""
        return self._code.model if self._spec is None else self._spec.model

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimizers of the last fit, by name."""
        return self._optimizers

    @property
    def rank(self) -> int:
        """The number of this process among those of the run, from 0; rank 0 writes and shows what all have done."""
        return 0 if self._world is None else self._world.rank

    def _context(self, method: str) -> RunContext:
        context = self._hub.context
        if context is None or (context.at_rest and method != "save_checkpoint"):
            raise ConfigError(
                f"trainer.{method}() acts on a running fit, and none is running.", hint="call it in a handler."
            )
        return context
