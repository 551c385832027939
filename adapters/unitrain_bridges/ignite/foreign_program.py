"""An Ignite engine's run as a program for another backend's loop."""

from __future__ import annotations

from inspect import isgenerator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.foreign import Unsized
from unitrain.backends.protocol import Verdict
from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.ignite.engine_run import EngineRun, Pause, Terminated
from unitrain_bridges.ignite.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    from unitrain.optim.schedules import Schedule
    from unitrain_bridges.ignite.prepare import RunArguments
    from unitrain_ignite._compat import Engine

NO_BATCH = object()
"""A placeholder batch for engines without data; Lightning would skip a step with None."""


class Pending:
    """A run that has begun, kept where Ignite keeps its own: in the engine, as long as it is not over.

    ``Engine.run`` asks it for what comes next. Within a handler that is an error, as in Ignite.

    Args:
        framework: The framework whose loop runs it.
        engine: The engine of the run.
    """

    def __init__(self, framework: str, engine: Engine) -> None:
        self._framework = framework
        self.pauses = EngineRun(engine).run()
        self.over = False
        self.broken = False

    @property
    def running(self) -> bool:
        """Whether a part of it runs at this moment."""
        return isgenerator(self.pauses) and self.pauses.gi_running

    def __next__(self) -> None:
        if self.broken:
            raise StopIteration  # what Ignite does after an error: the next run is none
        if self.running:
            raise ValueError("generator already executing")
        raise UnsupportedFeatureError(
            f"this engine's run was interrupted on {self._framework!r}; Ignite cannot resume it.",
            hint=f'resume with UnifiedTrainer("{self._framework}").fit(engine, loader).',
        )


class EngineProgram:
    """An engine's run as a ``Program``.

    Attributes:
        foreign: True: it sees to devices, modes and gradients itself.
        model: The trained model.
        optimizers: The optimizers by name.
        batches: The batches of the running epoch.
        output: The last output of the engine's process function.
        last: Whether the last batch was its epoch's last.
        grad_mode: Whether the run records gradients, as it left the switch.

    Args:
        engine: The user's own engine, with its handlers; its state is prepared here.
        framework: The framework whose loop runs it.
        wanted: The arguments of the run.
        model: The trained model.
        optimizers: The optimizers by name.

    Raises:
        ValueError: If Ignite would refuse the arguments.
        UnsupportedFeatureError: If the engine is in the middle of a run of Ignite's own.
    """

    foreign = True
    schedules: Sequence[Schedule] = ()
    max_epochs = None
    validation = None
    metrics: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        engine: Engine,
        framework: str,
        wanted: RunArguments,
        model: nn.Module,
        optimizers: Mapping[str, Optimizer],
    ) -> None:
        self.model = model
        self.optimizers = optimizers
        self.batches = Unsized(self._read)
        self.output: Any = None
        self.last = False
        self._engine = engine
        self._at: Pause | None = None
        self.grad_mode = torch.is_grad_enabled()
        # where Ignite keeps a run that was interrupted; a new one lets it go, and nobody else may hold it then
        _refuse_elsewhere(engine._internal_run_generator, framework)  # noqa: SLF001
        prepare(engine, wanted)
        left = engine._internal_run_generator  # noqa: SLF001 - a new state drops it
        self._run = left if isinstance(left, Pending) else Pending(framework, engine)
        self._run.over = self._run.broken or (isgenerator(left) and left.gi_frame is None)
        engine._internal_run_generator = self._run  # type: ignore[assignment]  # noqa: SLF001

    def start(self) -> Verdict:
        """Begin the run, or continue with an interrupted one."""
        self._advance()
        return self._after_epoch()

    def _after_epoch(self) -> Verdict:
        return Verdict.END_FIT if self._at in (None, Pause.END, Pause.INTERRUPTED) else Verdict.NEXT

    def epoch_start(self) -> None:
        """Begin an epoch, if one does not continue."""
        if self._at is Pause.EPOCH:
            self._advance()

    def _read(self) -> Iterator[Any]:
        while True:
            if self._at is Pause.FETCH:
                self._advance()
            if self._at is not Pause.STEP:
                return
            batch = self._engine.state.batch
            yield NO_BATCH if batch is None else batch

    def train_batch(self, batch: Any) -> Verdict:  # noqa: ARG002 - it is in the engine's state, where handlers may change it
        """Let the engine run an iteration."""
        self._advance()
        self.output = self._engine.state.output
        return self.batch_done()

    def batch_done(self) -> Verdict:
        """Return whether the batch was the epoch's last; its handlers have validated, if they do."""
        self.last = self._at is not Pause.FETCH
        return Verdict.END_EPOCH if self.last else Verdict.NEXT

    def epoch_end(self) -> Verdict:
        """End the epoch; if the backend ends it itself, the run too."""
        if self._at in (Pause.FETCH, Pause.STEP):
            self._terminate()
        if self._at is Pause.EPOCH_END:
            self._advance()
        return self._after_epoch()

    def end(self) -> None:
        """End the run; if the backend ends it itself, as a handler that terminates it."""
        if self._at is Pause.EPOCH:
            self._terminate()
        if self._at is Pause.END:
            self._advance()

    def stopped(self, reason: str) -> None:
        """Do nothing: the engine's own state has the reason."""

    def fail(self, error: BaseException) -> None:
        """Notify the engine's handlers of an error of the backend, unless the engine has raised it.

        Raises:
            BaseException: The error, unless it ends the run and a handler of EXCEPTION_RAISED takes it.
        """
        if self._run.over:
            raise error
        self._advance(error)
        if not self._run.over:  # a handler took the error, and the run would continue; the backend's loop cannot
            self._run.pauses.close()
            self._close(broken=True)
            raise error

    def release(self) -> None:
        """Let go of the engine, which is freed when its user drops it; the backend may keep the program."""
        del self._engine, self._run
        self.batches, self.output = Unsized(lambda: iter(())), None

    def _terminate(self) -> None:
        self._engine.terminate()
        self._advance(Terminated())

    def _advance(self, thrown: BaseException | None = None) -> None:
        """Let the run continue to its next pause, under its own mode of gradients: a backend may have set another."""
        if self._run.over:
            self._close(broken=False)
            return
        outer = torch.is_grad_enabled()
        if outer is not self.grad_mode:
            torch.set_grad_enabled(self.grad_mode)
        try:
            self._at = next(self._run.pauses) if thrown is None else self._run.pauses.throw(thrown)
        except StopIteration:
            self._close(broken=False)
        except BaseException:
            self._close(broken=True)
            raise
        finally:
            self.grad_mode = torch.is_grad_enabled()
            if outer is not self.grad_mode:
                torch.set_grad_enabled(outer)

    def _close(self, *, broken: bool) -> None:
        self._at, self._run.over, self._run.broken = None, True, broken
        if not broken:
            self._engine._internal_run_generator = None  # noqa: SLF001 - as Ignite after a run


def _refuse_elsewhere(left: Any, framework: str) -> None:
    """Refuse an engine that is already running, or that Ignite itself has interrupted.

    Raises:
        ValueError: As Ignite does, if the engine runs.
        UnsupportedFeatureError: If only Ignite can continue with it.
    """
    pauses = left.pauses if isinstance(left, Pending) else left
    if not isgenerator(pauses) or pauses.gi_frame is None:
        return
    if pauses.gi_running:
        raise ValueError("generator already executing")
    if pauses is left:
        raise UnsupportedFeatureError(
            f"this engine's run was interrupted in Ignite itself; {framework!r} cannot resume it.",
            hint="resume with engine.run(loader), or load engine.state_dict() into another engine.",
        )
