"""Runs Ignite programs: natively on Ignite, in the backend's loop elsewhere."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.foreign import ForeignEvaluation
from unitrain.backends.protocol import Verdict
from unitrain.checkpoint import io
from unitrain.config import UNLIMITED
from unitrain.errors import CheckpointError, ConfigError, UnsupportedFeatureError
from unitrain.loop.device import torch_switches
from unitrain.run.result import show_metrics
from unitrain_bridges.ignite.bare import held_by
from unitrain_bridges.ignite.batch_values import batches_sent
from unitrain_bridges.ignite.code import LOOPS, evaluator_of, program_of, refuse_for_engines, refuse_own_loops
from unitrain_bridges.ignite.data import limited
from unitrain_bridges.ignite.discovery import Discovered, discover, wrap_modules
from unitrain_bridges.ignite.foreign_program import EngineProgram
from unitrain_bridges.ignite.options import HOME, check, device_of, epochs_of, sort_callbacks
from unitrain_bridges.ignite.outcome import Record, numbers, result
from unitrain_bridges.ignite.own_run import given_of, has_own_run, refuse_arguments, run_by_its_own
from unitrain_bridges.ignite.prepare import RunArguments
from unitrain_ignite._compat import Engine, Events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitrain.backends.protocol import Adapter, Run, Stage
    from unitrain.config import TrainerConfig
    from unitrain.interop.ignite_programs import IgniteProgram
    from unitrain.run.result import FitResult


class IgniteSession:
    """Runs Ignite programs on one backend.

    Attributes:
        bridged: The engine that ran last.

    Args:
        adapter: The backend that runs them.
        config: The trainer's arguments, as they were given.

    Raises:
        UnitrainError: If an argument cannot act.
    """

    def __init__(self, adapter: Adapter, config: TrainerConfig) -> None:
        check(adapter, config)
        self._adapter = adapter
        self._config = config.resolved()
        self._callbacks = sort_callbacks(adapter, config.callbacks)
        self._attached: list[Engine] = []
        self._found = Discovered()
        self._native: Any = None
        self.bridged: Any = None

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine`` that ran the steps."""
        return self._native

    # --- running ------------------------------------------------------------------------------------------------------

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train.

        Raises:
            UnitrainError: If anything given cannot act.
        """
        refuse_for_engines(data[1], ckpt_path)
        program = program_of(code)
        if program.engine is not None:
            refuse_own_loops(program.engine, self._adapter.name, LOOPS)
        length = program.epoch_length
        loader = limited(data[0], self._config, length)
        epochs = epochs_of(self._config)
        if epochs is not None and program.max_iters is not None:
            raise ConfigError(
                f"max_epochs={epochs} and max_iters={program.max_iters} both set how long to train.",
                hint="use one of them.",
            )
        wanted = RunArguments(loader, epochs, program.max_iters, length)
        if program.engine is not None:
            refuse_arguments(program.engine, wanted)
        return self.train(program, wanted, by_its_own=True)

    def train(self, program: IgniteProgram, wanted: RunArguments, *, by_its_own: bool = False) -> FitResult:
        """Run an engine as ``Engine.run`` does with the same arguments, on the backend's loop.

        Args:
            program: With the engine.
            wanted: The arguments.
            by_its_own: Call ``run`` of the engine's class, if it overrides it.
        """
        engine = self._opened(program)
        found = self._found = discover(engine, program)
        record = Record(engine, found.optimizers.values())
        sent = batches_sent(engine, self._config.loggers, found.optimizers.values())
        with torch_switches(self._config), sent, record.keeping():
            self._run(engine, wanted, lambda given: self._train_elsewhere(engine, given, found), by_its_own=by_its_own)
        return result(engine, discover(engine, program), record, self._adapter.name, self._native)

    def evaluate(
        self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None = None
    ) -> dict[str, float]:
        """Run an evaluator's engine, and return its metrics.

        Raises:
            SpecError: If there is no engine, or if it trains.
            UnitrainError: If anything given cannot act.
        """
        engine = self._evaluated(code, stage.value, data, ckpt_path)
        found = numbers(engine.state.metrics)
        if verbose:
            show_metrics(stage.value, found)
        return found

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Run an evaluator's engine, and return the outputs of its step, one item per batch.

        Raises:
            SpecError: If there is no engine, or if it trains.
            UnitrainError: If anything given cannot act.
        """
        outputs: list[Any] = []

        def keep(engine: Engine) -> None:
            outputs.append(engine.state.output)

        self._evaluated(code, "predict", data, ckpt_path, keep)
        return outputs

    def stop(self) -> None:
        """End the run as ``engine.terminate()`` does."""
        self.bridged.terminate()

    def save_checkpoint(self, path: str | Path) -> None:
        """Write the states of modules, optimizers and engine by name, as Ignite's ``Checkpoint`` does.

        Raises:
            CheckpointError: If no module was found.
        """
        if not self._found.modules:
            raise CheckpointError(
                "no module was found in the program, so a checkpoint would not contain its weights.",
                hint="from_engine(engine, modules=[...], optimizers=[...])",
            )
        named = {**_called("model", self._found.modules), **_called("optimizer", self._found.optimizers)}
        states = {name: one.state_dict() for name, one in named.items()}
        io.write(Path(path), {**states, "trainer": self.bridged.state_dict()})

    # --- within -------------------------------------------------------------------------------------------------------

    def _opened(self, program: IgniteProgram) -> Engine:
        """Return the program's engine, with the trainer's callbacks attached once."""
        engine: Engine | None = program.engine
        if engine is None:
            assert program.process_function is not None  # noqa: S101 - for the type checker
            engine = Engine(program.process_function)
        refuse_own_loops(engine, self._adapter.name, LOOPS)
        if not any(engine is one for one in self._attached):
            for callback in self._callbacks.engine:
                callback.attach(engine)
            self._attached.append(engine)
        self.bridged = engine
        return engine

    def _evaluated(
        self, code: Any, stage: str, data: Any, ckpt_path: Any, keep: Callable[[Engine], None] | None = None
    ) -> Engine:
        refuse_for_engines(None, ckpt_path)
        program = evaluator_of(code, stage)
        engine: Engine = program.engine
        refuse_own_loops(engine, self._adapter.name, LOOPS)
        wanted = RunArguments(data, None, program.max_iters, program.epoch_length)
        refuse_arguments(engine, wanted)
        with ExitStack() as stack:
            stack.enter_context(torch_switches(self._config))
            if keep is not None:
                stack.enter_context(engine.add_event_handler(Events.ITERATION_COMPLETED, keep))
            self.bridged = engine
            self._run(
                engine,
                wanted,
                lambda given: self._evaluate_elsewhere(engine, given, discover(engine, program)),
                by_its_own=True,
            )
        return engine

    def _run(
        self, engine: Engine, wanted: RunArguments, elsewhere: Callable[[RunArguments], None], *, by_its_own: bool
    ) -> None:
        if self._adapter.name == HOME:
            self._native = engine
            engine.run(**given_of(wanted))
        elif by_its_own and has_own_run(engine):
            run_by_its_own(engine, wanted, elsewhere, self._adapter.name)
        else:
            elsewhere(wanted)

    def _built(self, found: Discovered) -> Run:
        """Return the backend's run for the modules found in a program."""
        config = replace(self._config, max_epochs=UNLIMITED, limit_train_batches=1.0, callbacks=(), seed=None)
        run = self._adapter.build(config, device_of(found.modules, self._config), self._callbacks.backend)
        self._native = run.native
        return run

    def _train_elsewhere(self, engine: Engine, wanted: RunArguments, found: Discovered) -> None:
        run, name = self._built(found), self._adapter.name
        program = EngineProgram(engine, name, wanted, wrap_modules(found.modules), found.optimizers)
        with _failures_told(program), _states_beside_weights(found.optimizers), _not_within_itself(engine, name):
            run.run(program)

    def _evaluate_elsewhere(self, engine: Engine, wanted: RunArguments, found: Discovered) -> None:
        run = self._built(found)
        program = EngineProgram(engine, self._adapter.name, wanted, wrap_modules({}), {})
        evaluation = ForeignEvaluation(program.batches, program.train_batch)
        with _failures_told(program):
            verdict = program.start()
            while verdict is Verdict.NEXT:
                program.epoch_start()
                run.run_evaluation(evaluation)
                verdict = program.epoch_end()
            program.end()


@contextmanager
def _failures_told(program: EngineProgram) -> Iterator[None]:
    """Notify the engine's handlers of an error of the backend, leave the switch of gradients as the run did, let go.

    The backend may keep the program.
    """
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt too, as in Ignite
        program.fail(error)
    finally:
        torch.set_grad_enabled(program.grad_mode)
        program.release()


@contextmanager
def _not_within_itself(engine: Engine, framework: str) -> Iterator[None]:
    """Refuse a run of an engine within its own run, which only engines without interruption allow."""
    if engine.interrupt_resume_enabled:
        yield
        return

    def refuse() -> None:
        raise UnsupportedFeatureError(
            f"engine.run() within a run of the same engine would run on Ignite instead of {framework!r}.",
            hint="use another engine for a run inside a handler.",
        )

    engine._internal_run_legacy = refuse  # type: ignore[assignment, method-assign]  # noqa: SLF001 - what run() calls
    try:
        yield
    finally:
        del engine._internal_run_legacy  # noqa: SLF001 - the class's own again


@contextmanager
def _states_beside_weights(optimizers: Mapping[str, Any]) -> Iterator[None]:
    """Move optimizer states, which a Trainer moves to the CPU at its end, back to the device of their weights."""
    try:
        yield
    finally:
        for optimizer in optimizers.values():
            for weight, state in held_by(optimizer).get("state", {}).items():
                if isinstance(state, dict) and hasattr(weight, "device") and weight.device.type != "cpu":
                    moved = {name: one.to(weight.device) for name, one in state.items() if _moves(name, one)}
                    state.update(moved)


def _moves(name: str, value: Any) -> bool:
    return name != "step" and hasattr(value, "to")


def _called(name: str, held: dict[str, Any]) -> dict[str, Any]:
    """Return the objects by ``name``, if there are several by their own names after it."""
    if len(held) == 1:
        return {name: next(iter(held.values()))}
    return {f"{name}_{own.removeprefix(f'{name}_')}": one for own, one in held.items()}
