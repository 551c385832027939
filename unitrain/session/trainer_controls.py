"""Inspection of a trainer, and control of its running fit."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeVar, Unpack, overload

from unitrain.checkpoint.resume import find_checkpoint
from unitrain.compat.deprecation import deprecated
from unitrain.compat.other_names import TRAINER
from unitrain.errors import ConfigError, SpecError, no_attribute
from unitrain.spec import TrainSpec
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from unitrain.backends.explain import Explanation
    from unitrain.backends.foreign import ForeignTrainer
    from unitrain.backends.protocol import Adapter, Run
    from unitrain.config import TrainerConfig
    from unitrain.distributed.world import World
    from unitrain.export.request import ExportOptions
    from unitrain.export.sources import Weights
    from unitrain.export.verify import ExportReport
    from unitrain.interop.foreign_callbacks import CallbackSet
    from unitrain.interop.foreign_code import ForeignCode
    from unitrain.run.context import RunContext
    from unitrain.run.hub import CustomEvent, Event, EventHub, RunState, Trigger, Triggers
    from unitrain.session.prepare import Placement
    from unitrain.utilities.profiling import Profile

H = TypeVar("H", bound="Callable[[RunContext], object] | Callable[[], object]")


_AS_DECORATOR = object()
"""Marks a missing handler; None would hide the mistake ``on(event, report())``."""


class TrainerControls:
    """The part of a trainer that starts nothing."""

    config: TrainerConfig
    _adapter: Adapter
    _world: World | None
    _callbacks: CallbackSet
    _placed: Callable[[], AbstractContextManager[Placement]]
    _busy: bool
    _hub: EventHub
    _code: ForeignCode
    _next: Run | None
    _last: Run | ForeignTrainer | None
    _spec: TrainSpec | None
    _optimizers: Mapping[str, Optimizer]

    if not TYPE_CHECKING:  # for a type checker, only what is defined exists

        def __getattr__(self, name: str) -> Never:
            """Refuse an unknown attribute, with the one that was meant."""
            raise no_attribute(self, name, "the trainer", TRAINER)

    def __repr__(self) -> str:
        """Return the framework and the options that are not at their defaults."""
        given = self._code.config
        options = [f"{one.name}={shown(getattr(given, one.name))}" for one in fields(given) if given.changed(one.name)]
        return f"{type(self).__name__}({', '.join([repr(self.framework), *options])})"

    @overload
    def on(self, event: Event | CustomEvent | Trigger | Triggers) -> Callable[[H], H]: ...

    @overload
    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: H) -> H: ...

    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: Any = _AS_DECORATOR) -> Any:
        """Call a handler at an event; use it as a decorator, or give the handler.

        Args:
            event: An Event or a CustomEvent, one with a filter as ``Event.EPOCH_END(every=2)``, or several joined by
                ``|``.
            handler: Takes the run, or nothing.

        Raises:
            SpecError: If the event or the handler is invalid.
        """
        if handler is not _AS_DECORATOR:
            self._hub.on(event, handler)
            return handler

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            self._hub.on(event, handler)
            return handler

        return decorate

    def explain(self, spec: TrainSpec | None = None, *, all: bool = False) -> Explanation:  # noqa: A002 - as people ask
        """Print and return what the options became on this backend, those that differ from their defaults.

        Args:
            spec: Explain it too; by default the one that ran last.
            all: Explain the options that are at their defaults too.

        Raises:
            SpecError: If it is none; a framework's own code does as its framework does.
        """
        if spec is not None and not isinstance(spec, TrainSpec):
            raise SpecError(
                f"explain() explains a TrainSpec; got a {type(spec).__name__}.",
                hint=f"`unitrain migrate SCRIPT --check-backend {self.framework}` reports what a script cannot use.",
            )
        from unitrain.backends.explain import explain  # noqa: PLC0415 - only who asks for it pays for it

        explanation = explain(self._adapter, self.config, spec or self._spec, everything=all)
        further = "" if all else "\nAll other options have their defaults; explain(all=True) shows them."
        print(f"{explanation}{further}")  # noqa: T201 - that is what it is for
        return explanation

    def export(
        self,
        path: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - as everyone calls it
        ckpt_path: str | Path | None = None,
        weights: Weights = "model",
        **options: Unpack[ExportOptions],
    ) -> ExportReport:
        """Write the model that ran last for use without unitrain, and compare the file with it; rank 0 writes.

        Args:
            path: The file; one that was there stays if this fails.
            format: ``"onnx"``, ``"torch_export"``, ``"safetensors"`` or another; by default the suffix tells.
            ckpt_path: A checkpoint to take the weights from.
            weights: ``"model"``, or ``"ema"`` for the average of the EMA callback.
            **options: What is asked of the export, as ``opset=17``; see ``unitrain.export.request.ExportOptions``. The
                example is the spec's, or a LightningModule's ``example_input_array``, if none is given.

        Returns:
            How far the file is from the model, at each size that was compared.

        Raises:
            ConfigError: If processes are in a run, which cannot wait for this.
            ExportError: If it cannot be written so, or computes something else; then there is no file.
        """
        from unitrain.export.from_trainer import export_model  # noqa: PLC0415 - torch.export is large
        from unitrain.export.sources import by_the_first  # noqa: PLC0415 - as above

        if self._world is not None and (self._busy or self._code.running):
            raise ConfigError("export() cannot run while other processes are in a run.", hint="export after fit().")
        own = () if self._spec is None else self._callbacks.of(self._spec.callbacks).own
        found = None if ckpt_path is None else find_checkpoint(ckpt_path, own, self._hub.last_checkpoint, self.config)
        work = partial(
            export_model, self.model, self._spec, path, format, callbacks=own, ckpt_path=found, weights=weights
        )
        with self._placed() as place:
            return by_the_first(place.team, partial(work, options))

    def stop(self) -> None:
        """Request a stop of the running fit: the batch finishes, and validation and EPOCH_END follow."""
        if self._code.running and self._code.session is not None:
            self._code.session.stop()
            return
        self._context("stop").stop()

    def log(self, name: str, value: Tensor | float) -> None:
        """Log a value into the running stage; see ``RunContext.log``."""
        self._context("log").log(name, value)

    def fire(self, event: CustomEvent) -> None:
        """Fire an event of your own in the running stage, as from a training step; see ``RunContext.fire``."""
        self._context("fire").fire(event)

    @property
    def framework(self) -> str:
        """The name of the backend."""
        return self._adapter.name

    @property
    def state(self) -> RunState:
        """Where the fit is, or where the last one ended; an evaluation adds its metrics."""
        return self._hub.state

    @property
    def profile(self) -> Profile | None:
        """Where the time of the last run went, of one that failed too; None without ``profiler="simple"``."""
        return self._hub.profile

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``; None before there is one."""
        run = self._next or self._last
        return None if run is None else run.native

    @property
    def foreign_trainer(self) -> Any:
        """The trainer as a framework's own code sees it; None before such code has run.

        For a LightningModule it is ``self.trainer`` (on Lightning, the real one), for an Ignite program its engine.
        """
        return None if self._code.session is None else self._code.session.bridged

    @property
    @deprecated(since="0.2", remove="0.4", instead="trainer.foreign_trainer")
    def bridged(self) -> Any:
        """The former name of ``foreign_trainer``."""
        return self.foreign_trainer

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
        context: RunContext | None = self._hub.context
        if context is None or (context.at_rest and method != "save_checkpoint"):
            raise ConfigError(f"trainer.{method}() needs a running fit.", hint="call it from a handler.")
        return context
