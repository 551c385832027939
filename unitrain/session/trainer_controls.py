"""Inspection of a trainer, and control of its running fit."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Never, TypeVar, Unpack, overload

from unitrain.checkpoint.resume import find_checkpoint
from unitrain.compat.deprecation import deprecated
from unitrain.compat.other_names import TRAINER
from unitrain.errors import ConfigError, SpecError, no_attribute
from unitrain.reports.live import in_notebook
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
    from unitrain.serving.child import ModelServer
    from unitrain.serving.options import ServeOptions
    from unitrain.session.prepare import Placement
    from unitrain.utilities.profiling import Profile

H = TypeVar("H", bound="Callable[[RunContext], object] | Callable[[], object]")


_AS_DECORATOR = object()
"""Marks a missing handler; None would hide the mistake ``on(event, report())``."""


class TrainerControls:
    """The part of a trainer that inspects and controls a run."""

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
        """Return the framework and the options with non-default values."""
        given = self._code.config
        options = [f"{one.name}={shown(getattr(given, one.name))}" for one in fields(given) if given.changed(one.name)]
        return f"{type(self).__name__}({', '.join([repr(self.framework), *options])})"

    @overload
    def on(self, event: Event | CustomEvent | Trigger | Triggers) -> Callable[[H], H]: ...

    @overload
    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: H) -> H: ...

    def on(self, event: Event | CustomEvent | Trigger | Triggers, handler: Any = _AS_DECORATOR) -> Any:
        """Register a handler for an event; use it as a decorator, or pass the handler.

        Args:
            event: An Event or a CustomEvent, with or without a filter, such as ``Event.EPOCH_END(every=2)``, or several
                joined by ``|``.
            handler: A function of the run, or without arguments.

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
        """Print and return how this backend implements the options that differ from their defaults.

        A notebook shows what a cell returns, so there it is not printed.

        Args:
            spec: A TrainSpec to explain too; by default the last one that ran.
            all: Whether to explain options at their defaults too.

        Raises:
            SpecError: If ``spec`` is not a TrainSpec; a framework's own code behaves as its framework does.
        """
        if spec is not None and not isinstance(spec, TrainSpec):
            raise SpecError(
                f"explain() explains a TrainSpec; got a {type(spec).__name__}.",
                hint=f"`unitrain migrate SCRIPT --check-backend {self.framework}` reports what a script cannot use.",
            )
        from unitrain.backends.explain import explain  # noqa: PLC0415 - only who asks for it pays for it

        explanation = explain(self._adapter, self.config, spec or self._spec, everything=all)
        further = "" if all else "\nAll other options have their defaults; explain(all=True) shows them."
        told = f"{'' if in_notebook() else explanation}{further}".strip("\n")
        if told:
            print(told)  # noqa: T201 - that is what it is for
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
        """Export the model of the last run for use without unitrain, and verify the file; rank 0 writes it.

        Args:
            path: The file to write; an existing one is kept if the export fails.
            format: ``"onnx"``, ``"torch_export"``, ``"safetensors"`` or another format; by default inferred from the
                suffix.
            ckpt_path: A checkpoint to load the weights from.
            weights: ``"model"``, or ``"ema"`` for the average of the EMA callback.
            **options: Export options such as ``opset=17``; see ``unitrain.export.request.ExportOptions``.
                ``example_input`` defaults to the spec's, or to a LightningModule's ``example_input_array``.

        Returns:
            The differences between the file and the model, at each compared size.

        Raises:
            ConfigError: If a run with several processes is in progress.
            ExportError: If the file cannot be written, or its outputs differ; then no file is left.
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

    def serve(
        self,
        *,
        format: str = "onnx",  # noqa: A002 - as in export()
        example_input: Any = None,
        ckpt_path: str | Path | None = None,
        weights: Weights = "model",
        **options: Unpack[ServeOptions],
    ) -> ModelServer:
        """Export the model that ran last, verified, and serve it over HTTP by a process beside this one.

        Args:
            format: ``"onnx"``, ``"torch_export"`` or ``"torchscript"``.
            example_input: As in ``export``.
            ckpt_path: As in ``export``.
            weights: As in ``export``.
            **options: ``port=8000``, ``workers=2`` and others; see ``unitrain.serving.options.ServeOptions``.

        Returns:
            The handle of the running service: ``url``, ``stop()``, a context manager. It ends with this process.

        Raises:
            ConfigError: If an option is invalid or the port is in use.
            ExportError: If the model cannot be exported.
        """
        from unitrain.serving.serve import serve_trained  # noqa: PLC0415 - only who serves needs its packages

        if self._world is not None:
            raise ConfigError(
                "serve() is for a single process.",
                hint='trainer.export("model.onnx"), then unitrain.serve("model.onnx")',
            )
        export = partial(self.export, format=format, ckpt_path=ckpt_path, weights=weights, example_input=example_input)
        return serve_trained(export, format, options)

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
        """Fire a custom event in the running stage, such as from a training step; see ``RunContext.fire``."""
        self._context("fire").fire(event)

    @property
    def framework(self) -> str:
        """The name of the backend."""
        return self._adapter.name

    @property
    def state(self) -> RunState:
        """The counters and latest values of the current or last fit; an evaluation adds its metrics."""
        return self._hub.state

    @property
    def profile(self) -> Profile | None:
        """The time profile of the last run, even if it failed; None without ``profiler="simple"``."""
        return self._hub.profile

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine``; None before there is one."""
        run = self._next or self._last
        return None if run is None else run.native

    @property
    def foreign_trainer(self) -> Any:
        """The trainer that a framework's own code sees; None before such code has run.

        For a LightningModule, it is ``self.trainer`` (on Lightning, the real one); for an Ignite program, its engine.
        """
        return None if self._code.session is None else self._code.session.bridged

    @property
    @deprecated(since="0.2", remove="0.4", instead="trainer.foreign_trainer")
    def bridged(self) -> Any:
        """The former name of ``foreign_trainer``."""
        return self.foreign_trainer

    @property
    def model(self) -> nn.Module | None:
        """The model of the last run, or the LightningModule."""
        return self._code.model if self._spec is None else self._spec.model

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimizers of the last fit, by name."""
        return self._optimizers

    @property
    def rank(self) -> int:
        """The rank of this process in the run, from 0; rank 0 writes files and shows output."""
        return 0 if self._world is None else self._world.rank

    def _context(self, method: str) -> RunContext:
        context: RunContext | None = self._hub.context
        if context is None or (context.at_rest and method != "save_checkpoint"):
            raise ConfigError(f"trainer.{method}() needs a running fit.", hint="call it from a handler.")
        return context
