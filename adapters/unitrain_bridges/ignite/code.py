"""Validates Ignite programs before they run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unitrain.errors import ConfigError, SpecError, UnsupportedFeatureError
from unitrain.interop.ignite_programs import IgniteProgram, from_engine
from unitrain_bridges.ignite.options import HOME
from unitrain_bridges.ignite.roles import trains
from unitrain_ignite._compat import Engine, takes_max_iters


def refuse_own_loops(engine: Engine, framework: str, methods: tuple[str, ...]) -> None:
    """Refuse an engine whose class has a loop of its own, which another loop would leave out.

    Raises:
        UnsupportedFeatureError: With the class and the method.
    """
    if framework == HOME:
        return
    for cls in type(engine).__mro__:
        own = [name for name in methods if name in vars(cls)]
        if own and issubclass(cls, Engine) and cls is not Engine:
            raise UnsupportedFeatureError(
                f"{cls.__name__} overrides {own[0]} of Ignite's Engine, which {framework!r} does not call.",
                hint=_HINT,
            )


_HINT = 'UnifiedTrainer("ignite"), or use handlers instead of the override.'

LOOPS = (
    "_internal_run",
    "_internal_run_as_gen",
    "_internal_run_legacy",
    "_maybe_terminate_or_interrupt",
    "_run_once_on_dataset_as_gen",
    "_run_once_on_dataset_legacy",
)


def program_of(code: Any) -> IgniteProgram:
    """Return the argument of ``fit`` as a program.

    Raises:
        SpecError: If it is none.
        UnsupportedFeatureError: If the installed Ignite is too old for it.
    """
    if code is None:
        raise SpecError("fit() takes an engine; got nothing.", hint="trainer.fit(engine, loader)")
    program = code if isinstance(code, IgniteProgram) else from_engine(code)
    if program.engine is not None and not isinstance(program.engine, Engine):
        raise SpecError(
            f"an Ignite program is an ignite.engine.Engine; got a {type(program.engine).__name__}.",
            hint="from_step(process_function) creates an engine from a function.",
        )
    if program.max_iters is not None and not takes_max_iters():
        raise UnsupportedFeatureError(
            f"max_iters={program.max_iters}: the installed Ignite does not support it.", hint="pytorch-ignite>=0.5.5"
        )
    return program


def evaluator_of(code: Any, stage: str) -> IgniteProgram:
    """Return the program of an evaluator.

    Raises:
        SpecError: If there is none, or if it trains.
    """
    method = {"val": "validate"}.get(stage, stage)
    if code is None:
        raise SpecError(
            f"{method}() of an Ignite program needs its evaluator; the last engine was a trainer.",
            hint=f"trainer.{method}(evaluator, loader)",
        )
    program = program_of(code)
    function = program.process_function
    if function is not None:
        program = replace(program, engine=Engine(function), process_function=None)
    if trains(program.engine):
        raise SpecError(
            f"the engine given to {method}() is a trainer: its step calls an optimizer or backward.",
            hint=f"trainer.fit(engine, loader); pass an evaluator to {method}().",
        )
    return program


def refuse_for_engines(val: Any, ckpt_path: Any) -> None:
    """Refuse arguments that have no effect on an Ignite program.

    Raises:
        ConfigError: If it is invalid.
    """
    if val is not None:
        raise ConfigError(
            "val_dataloaders= does not apply to an Ignite program, which validates in its own handlers.",
            hint="@engine.on(Events.EPOCH_COMPLETED) and evaluator.run(val_loader) in it.",
        )
    if ckpt_path is not None:
        raise ConfigError(
            f"ckpt_path={str(ckpt_path)!r} does not apply to an Ignite program, which loads its own checkpoints.",
            hint='Checkpoint.load_objects({"model": model, "trainer": engine}, torch.load(path)) before fit().',
        )
