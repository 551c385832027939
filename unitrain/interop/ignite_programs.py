"""Ignite programs for ``UnifiedTrainer.fit``: a process function, or an engine with its handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from unitrain.errors import SpecError, complete_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn
    from torch.optim import Optimizer


class ModuleLike(Protocol):
    """A LightningModule."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch."""

    def configure_optimizers(self) -> Any:
        """Return the optimizers."""


class EngineLike(Protocol):
    """An ``ignite.engine.Engine``."""

    state: Any

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the process function on each batch."""

    def add_event_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Listen to an event."""


@dataclass(frozen=True, kw_only=True)
class IgniteProgram:
    """An Ignite program; created by ``from_engine`` and ``from_step``.

    Attributes:
        engine: An ``ignite.engine.Engine`` with its handlers; None if there is a process function.
        process_function: Takes the engine and a batch; None if there is an engine.
        epoch_length: Iterations of an epoch, as for ``Engine.run``; None is the length of the data.
        max_iters: Iterations to run, as for ``Engine.run``.
        modules: The trained modules; by default those that its functions refer to.
        optimizers: The optimizers; by default those that its functions refer to.
    """

    framework: ClassVar[str] = "ignite"

    engine: Any = None
    process_function: Callable[[Any, Any], Any] | None = None
    epoch_length: int | None = None
    max_iters: int | None = None
    modules: Sequence[nn.Module] | None = None
    optimizers: Sequence[Optimizer] | None = None


FrameworkCode: TypeAlias = ModuleLike | EngineLike | IgniteProgram
"""A native program, which ``UnifiedTrainer.fit`` runs unchanged."""


@complete_call(SpecError, "unitrain.from_engine(engine)")
def from_engine(
    engine: EngineLike,
    *,
    epoch_length: int | None = None,
    max_iters: int | None = None,
    modules: Sequence[nn.Module] | None = None,
    optimizers: Sequence[Optimizer] | None = None,
) -> IgniteProgram:
    """Return ``engine`` as a program for ``UnifiedTrainer.fit``: its process function, its handlers and its state.

    Args:
        engine: An ``ignite.engine.Engine`` that trains.
        epoch_length: Iterations of an epoch, as for ``Engine.run``; the next epoch continues with the data.
        max_iters: Iterations to run, as for ``Engine.run``, in place of ``max_epochs``.
        modules: The trained modules; by default found in the process function and the handlers.
        optimizers: The optimizers; by default found in the same way.

    Returns:
        The program; ``fit`` takes it in place of a spec.

    Raises:
        SpecError: If it is not an engine.

    Example:
        >>> from ignite.engine import Engine
        >>> engine = Engine(lambda engine, batch: len(batch))
        >>> UnifiedTrainer("reference", max_epochs=1).fit(from_engine(engine), [[1, 2], [3]]).framework
        'reference'
    """
    if not callable(getattr(engine, "run", None)) or not hasattr(engine, "state"):
        raise SpecError(
            f"from_engine() takes an ignite.engine.Engine; got {engine!r}.",
            hint="from_step(process_function) creates an engine from a function.",
        )
    return IgniteProgram(
        engine=engine, epoch_length=epoch_length, max_iters=max_iters, modules=modules, optimizers=optimizers
    )


@complete_call(SpecError, "unitrain.from_step(process_function)")
def from_step(
    process_function: Callable[[Any, Any], Any],
    *,
    epoch_length: int | None = None,
    max_iters: int | None = None,
    modules: Sequence[nn.Module] | None = None,
    optimizers: Sequence[Optimizer] | None = None,
) -> IgniteProgram:
    """Return an Ignite process function as a program for ``UnifiedTrainer.fit``.

    Args:
        process_function: ``(engine, batch) -> output``; it steps its optimizers itself.
        epoch_length: As in ``from_engine``.
        max_iters: As in ``from_engine``.
        modules: As in ``from_engine``.
        optimizers: As in ``from_engine``.

    Returns:
        The program; ``fit`` takes it in place of a spec.

    Raises:
        SpecError: If it is not a function.

    Example:
        >>> program = from_step(lambda engine, batch: len(batch))
        >>> UnifiedTrainer("reference", max_epochs=1).fit(program, [[1, 2], [3]]).framework
        'reference'
    """
    if not callable(process_function):
        raise SpecError(
            f"from_step() takes a function (engine, batch); got {process_function!r}.",
            hint="def step(engine, batch): ...; return loss.item()",
        )
    return IgniteProgram(
        process_function=process_function,
        epoch_length=epoch_length,
        max_iters=max_iters,
        modules=modules,
        optimizers=optimizers,
    )
