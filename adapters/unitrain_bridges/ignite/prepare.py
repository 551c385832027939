"""The preparation in ``Engine.run``: a new state, or that of an earlier run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from unitrain_ignite._compat import Engine


class RunArguments(NamedTuple):
    """The arguments of ``Engine.run``.

    Attributes:
        data: The batches; None if there are none.
        max_epochs: Epochs to run.
        max_iters: Iterations to run.
        epoch_length: Iterations of an epoch.
    """

    data: Any = None
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None


def prepare(engine: Engine, wanted: RunArguments) -> None:
    """Bring the engine's state to where its loop begins; in Ignite's own words where it refuses.

    Raises:
        TypeError: If the data is not iterable.
        ValueError: If the arguments contradict each other or the state.
    """
    state = engine.state
    if wanted.data is not None and not isinstance(wanted.data, Iterable):
        raise TypeError("Argument data should be iterable")
    _check_limits(state, wanted)
    limits = state.max_epochs, max_iters_of(state)
    new = limits == (None, None) or (engine._is_done(state) and engine._internal_run_generator is None)  # noqa: SLF001
    if new:
        _begin(engine, wanted)
    else:
        _go_on(engine, wanted)
    if engine._dataloader_iter is None:  # noqa: SLF001 - as Engine.run
        state.dataloader = wanted.data


def max_iters_of(state: Any) -> int | None:
    """Return the number of iterations to run; states before 0.5.5 have none."""
    iterations: int | None = getattr(state, "max_iters", None)
    return iterations


def _check_limits(state: Any, wanted: RunArguments) -> None:
    if wanted.max_epochs is not None and wanted.max_iters is not None:
        raise ValueError(
            "Arguments max_iters and max_epochs are mutually exclusive. Please provide only max_epochs or max_iters."
        )
    limits = (("max_epochs", "max_iters", "epoch"), ("max_iters", "max_epochs", "iteration"))
    for name, other, _ in limits:
        if getattr(wanted, name) is not None and getattr(state, other, None) is not None:
            raise ValueError(
                f"To switch from {other} to {name} mode during resume, "
                f"you must first reset by setting 'engine.state.{other} = None' before calling run()."
            )
    for name, _, progress in limits:
        if getattr(state, name, None) is not None and getattr(wanted, name) is not None:
            _set_limit(state, name, getattr(wanted, name), progress)


def _set_limit(state: Any, name: str, value: int, progress: str) -> None:
    if value < 1:
        raise ValueError(f"Argument {name} is invalid. Please, set a correct {name} positive value")
    if value < getattr(state, progress):
        raise ValueError(
            f"Argument {name} should be greater than or equal to the start "
            f"{progress} defined in the state: {value} vs {getattr(state, progress)}. "
            f"Please, set engine.state.{name} = None "
            "before calling engine.run() in order to restart the training from the beginning."
        )
    setattr(state, name, value)


def _begin(engine: Engine, wanted: RunArguments) -> None:
    state = engine.state
    length = wanted.epoch_length
    if wanted.data is None and length is None and state.epoch_length is None:
        raise ValueError("epoch_length should be provided if data is None")
    if length is None and wanted.data is not None:
        length = _length(engine, wanted.data)
    if length is None:
        length = state.epoch_length
    if length is not None and length < 1:
        raise ValueError("Input data has zero size. Please provide non-empty data")
    state.iteration = state.epoch = 0
    state.max_epochs = None if wanted.max_iters is not None else 1 if wanted.max_epochs is None else wanted.max_epochs
    state.max_iters = wanted.max_iters
    state.epoch_length = length
    engine._internal_run_generator = None  # noqa: SLF001 - as Engine.run
    engine.logger.info(f"Engine run starting with {_limit(state)}.")  # noqa: G004 - Ignite's own line


def _limit(state: Any) -> str:
    return f"max_epochs={state.max_epochs}" if state.max_iters is None else f"max_iters={state.max_iters}"


def _go_on(engine: Engine, wanted: RunArguments) -> None:
    state = engine.state
    if state.epoch_length is None:
        length = wanted.epoch_length
        if length is None and wanted.data is not None:
            length = _length(engine, wanted.data)
        if length is not None and length < 1:
            raise ValueError("Input data has zero size. Please provide non-empty data")
        state.epoch_length = length
    elif wanted.epoch_length not in (None, state.epoch_length):
        raise ValueError(
            "Argument epoch_length should be same as in the state, "
            f"but given {wanted.epoch_length} vs {state.epoch_length}"
        )
    iterations = max_iters_of(state)
    until = f"{state.max_epochs} epochs" if iterations is None else f"{iterations} iterations"
    engine.logger.info(
        f"Engine run resuming from iteration {state.iteration}, epoch {state.epoch} until {until}"  # noqa: G004
    )
    if state.epoch_length is None and wanted.data is None:
        raise ValueError("epoch_length should be provided if data is None")
    if engine.should_terminate:
        engine._init_iter = 0  # noqa: SLF001 - as Engine.run: a terminated epoch is not resumed


def _length(engine: Engine, data: Any) -> int | None:
    length: int | None = engine._get_data_length(data)  # noqa: SLF001 - as Engine.run
    return length
