"""Everything observable of a run, and how two runs differ: bit by bit, never approximately."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unitrain.run.hub import Event
from unitrain.trainer import UnifiedTrainer

if TYPE_CHECKING:
    from unitrain.backends.protocol import Adapter
    from unitrain.run.context import RunContext
    from unitrain.run.result import FitResult
    from unitrain.spec import TrainSpec

SEED = 1234

_ENDS = (Event.VAL_END, Event.EPOCH_END, Event.FIT_END)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to train, recreated for each run.

    Attributes:
        name: For the test's identity.
        spec: Makes the spec; the global generators are seeded before.
        train: Makes the training data.
        val: Makes the validation data, or None.
        options: Arguments of UnifiedTrainer.
        act: Told the trainer before the fit, to attach handlers.
    """

    name: str
    spec: Callable[[], TrainSpec]
    train: Callable[[], Any]
    val: Callable[[], Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    act: Callable[[UnifiedTrainer], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a run did and left.

    Attributes:
        tape: Each event with the counters at that moment.
        losses: The loss of each training batch.
        rates: The learning rates after each training batch.
        metrics: The values known at each VAL_END, EPOCH_END and FIT_END, and at last.
        history: The result's history.
        weights: The model's state.
        optimizers: The optimizers' states.
        outcome: Last epoch, steps, batches and the reason for the end.
        rng: The final states of the global generators.
        modes: The train or eval mode of each module.
        scales: With a scaled loss, the scale after each training batch, and the scaler's last state.
        tensors: The last matrices and curves.
    """

    tape: list[tuple[str, int, int, int]]
    losses: list[Tensor | None]
    rates: list[list[float]]
    metrics: list[dict[str, float]]
    history: list[dict[str, float]]
    weights: dict[str, Any]
    optimizers: dict[str, Any]
    outcome: tuple[Any, ...]
    rng: tuple[Any, ...]
    modes: list[bool]
    scales: list[Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Tape:
    """Records a run, event by event.

    Args:
        trainer: The trainer to listen to.
    """

    def __init__(self, trainer: UnifiedTrainer) -> None:
        self.events: list[tuple[str, int, int, int]] = []
        self.losses: list[Tensor | None] = []
        self.rates: list[list[float]] = []
        self.metrics: list[dict[str, float]] = []
        self.scales: list[Any] = []
        for event in Event:
            trainer.on(event, self._recorder(event))

    def _recorder(self, event: Event) -> Callable[[RunContext], None]:
        def record(run: RunContext) -> None:
            state = run.state
            self.events.append((event.value, state.epoch, state.step, state.batch))
            if event is Event.BATCH_END:
                self.losses.append(state.loss)
                groups = [group for optimizer in run.optimizers.values() for group in optimizer.param_groups]
                self.rates.append([float(group["lr"]) for group in groups])
                self.scales += [] if run.scaler is None else [run.scaler.get_scale()]
            if event is Event.FIT_END:
                self.scales += [] if run.scaler is None else [run.scaler.state_dict()]
            if event in _ENDS:
                self.metrics.append(dict(state.metrics))

        return record

    def trace(self, trainer: UnifiedTrainer, result: FitResult) -> Trace:
        """Return everything observable of the fit that just ended."""
        state = {} if trainer.model is None else trainer.model.state_dict()
        return Trace(
            tape=self.events,
            losses=self.losses,
            rates=self.rates,
            metrics=[*self.metrics, result.metrics],
            history=result.history,
            weights={name: value.clone() for name, value in state.items()},
            optimizers={name: optimizer.state_dict() for name, optimizer in trainer.optimizers.items()},
            outcome=(result.epoch, result.step, trainer.state.batch, result.stopped_by),
            rng=_generators(),
            modes=[] if trainer.model is None else [module.training for module in trainer.model.modules()],
            scales=self.scales,
            tensors=result.tensors,
        )


def record(framework: str | Adapter, case: Case) -> Trace:
    """Train ``case`` on ``framework`` and return its trace."""
    _seed()
    spec = case.spec()
    options = {"max_epochs": 3, "seed": SEED, "enable_progress_bar": False, **case.options}
    trainer = UnifiedTrainer(framework, **options)
    tape = Tape(trainer)
    if case.act is not None:
        case.act(trainer)
    result = trainer.fit(spec, case.train(), None if case.val is None else case.val())
    return tape.trace(trainer, result)


def _generators() -> tuple[Any, ...]:
    """Return the states of the global generators, a GPU's too if one is in use."""
    host = torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()  # noqa: NPY002 - as _seed
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return (*host, torch.cuda.get_rng_state()) if in_use else host


def _seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the global one is what is compared
    torch.manual_seed(SEED)


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Return where two values differ in any bit, as readable paths; none means equal.

    Tensors are compared by dtype, shape and ``torch.equal``.
    """
    if type(left) is not type(right):
        return [f"{where}: {type(left).__name__} and {type(right).__name__}"]
    if isinstance(left, Trace):
        pairs = [(one.name, getattr(left, one.name), getattr(right, one.name)) for one in fields(Trace)]
        return [found for name, a, b in pairs for found in differences(a, b, f"{where}{name}")]
    if isinstance(left, (Tensor, np.ndarray)):
        return [] if _same(torch.as_tensor(left), torch.as_tensor(right)) else [f"{where}: the tensors differ"]
    if isinstance(left, Mapping):
        if left.keys() != right.keys():
            return [f"{where}: keys {list(left)} and {list(right)}"]
        return [found for key in left for found in differences(left[key], right[key], f"{where}[{key!r}]")]
    if isinstance(left, Sequence) and not isinstance(left, (str, bytes)):
        return _sequence_differences(left, right, where)
    return [] if left == right or (left != left and right != right) else [f"{where}: {left!r} and {right!r}"]  # noqa: PLR0124


def _sequence_differences(left: Sequence[Any], right: Sequence[Any], where: str) -> list[str]:
    found = [f"{where}: lengths {len(left)} and {len(right)}"] if len(left) != len(right) else []
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if one := differences(a, b, f"{where}[{index}]"):
            return [*found, *one]  # the first difference tells; the rest follows from it
    return found


def _same(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
