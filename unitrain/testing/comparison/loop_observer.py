"""Observes a hand-written loop, by hooks of torch and by what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unitrain.errors import SpecError
from unitrain.testing.comparison import kinds, state
from unitrain.testing.comparison.calls import Calls, FirstCalls
from unitrain.testing.comparison.leaves import leaves
from unitrain.testing.comparison.record import Header
from unitrain.testing.comparison.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.optim import Optimizer

    from unitrain.testing.comparison.leaves import Leaf
    from unitrain.testing.comparison.recorder import Recorder

_MODEL, _LOSS, _BATCH = "model", "loss", "batch"
_HINT = 'yield model, or {"model": model, "loss": loss, "batch": batch}, after each optimizer step.'


@dataclass(frozen=True)
class Yielded:
    """What a loop yields after a step.

    Attributes:
        model: The model.
        others: The names and values that it yields beside it.
    """

    model: nn.Module
    others: Mapping[str, Any]

    @classmethod
    def of(cls, given: Any) -> Yielded:
        """Return what was yielded.

        Raises:
            SpecError: If there is no model in it, or something of another name.
        """
        values = dict(given) if isinstance(given, Mapping) else {_MODEL: given}
        model = values.pop(_MODEL, None)
        unknown = sorted(values.keys() - {_LOSS, _BATCH}, key=str)
        if not isinstance(model, nn.Module) or unknown:
            wrong = f"{', '.join(map(repr, unknown))} in it" if unknown else f"a {type(given).__name__}"
            raise SpecError(
                f"a hand-written loop must yield its model after each optimizer step; it yielded {wrong}.", hint=_HINT
            )
        return cls(model, values)


class LoopObserver:
    """Records a loop.

    In the first step it is not known which module is the model, so what is seen is kept until the loop yields it.

    Args:
        recorder: Where to.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._calls = Calls(recorder)
        self._steps = Steps(self._gradients, self._before_step, closures=True)
        self._model: nn.Module | None = None
        self._names = state.Names(None)
        self._optimizers: dict[int, Optimizer] = {}
        self._first_calls: FirstCalls | None = FirstCalls(recorder.start_clock, self._first_call)
        self._waiting: list[Callable[[nn.Module], None]] = []
        self._first_weights: dict[int, Tensor] = {}
        self._called: dict[int, nn.Module] = {}
        self._yields: frozenset[str] = frozenset()

    def run(self, loop: Iterator[Any]) -> None:
        """Run the loop to its end."""
        for given in loop:
            yielded = Yielded.of(given)
            with self._recorder.aside():
                if self._model is None:
                    self._begin(yielded)
                self._end_step(yielded)

    def leave(self) -> None:
        """Remove all hooks."""
        self._calls.leave()
        self._steps.leave()
        if self._first_calls is not None:
            self._first_calls.leave()

    def _begin(self, yielded: Yielded) -> None:
        """Record all that was seen before the model was known."""
        model, recorder = yielded.model, self._recorder
        self._model, self._names = model, state.Names(model)
        self._yields = frozenset(yielded.others)
        if self._first_calls is not None:
            self._first_calls.leave()
            self._first_calls = None
        extra = {name for name in (kinds.LOSS, kinds.BATCH) if name in self._yields}
        recorder.begin(Header(kinds.OF_A_LOOP - {kinds.INITIAL_BUFFERS} | extra, loop=True))
        first = [(name, self._first_weights.get(id(value), value)) for name, value in state.parameters(model)]
        recorder.add(kinds.INITIAL_PARAMETERS, first)
        self._first_weights = {}
        recorder.close()
        for act in self._waiting:
            act(model)
        self._waiting = []
        self._calls.watch([self._called.get(id(model), model)])

    def _end_step(self, yielded: Yielded) -> None:
        if yielded.model is not self._model or frozenset(yielded.others) != self._yields:
            raise SpecError(
                "a hand-written loop must yield the same model, and the same names, after each step.", hint=_HINT
            )
        add, recorder = self._recorder.add, self._recorder
        if _BATCH in yielded.others:
            add(kinds.BATCH, leaves(yielded.others[_BATCH], "batch"))
        if _LOSS in yielded.others:
            loss = _loss(yielded.others[_LOSS])
            add(kinds.LOSS, [("loss", loss)], before=kinds.GRADIENT)
            recorder.add_loss(float(loss))
        optimizers = self._named_optimizers()
        add(kinds.PARAMETERS, state.parameters(yielded.model))
        add(kinds.BUFFERS, state.buffers(yielded.model))
        add(kinds.OPTIMIZER_STATE, state.optimizer_states(optimizers, self._names))
        recorder.close()
        self._calls.watch_inside(yielded.model)

    def _named_optimizers(self) -> dict[str, Optimizer]:
        found = list(self._optimizers.values())
        return {"" if len(found) == 1 else f"optimizer {number}: ": one for number, one in enumerate(found, 1)}

    def _before_step(self, optimizer: Optimizer) -> None:
        self._optimizers.setdefault(id(optimizer), optimizer)
        if self._model is None:
            for _, one in state.held(optimizer):
                self._first_weights.setdefault(id(one), one.detach().clone())

    def _gradients(self, optimizer: Optimizer) -> None:
        with self._recorder.aside():
            if self._model is not None:
                self._recorder.add(kinds.GRADIENT, state.gradients(optimizer, self._names))
                return
            copies = [
                (place, one, one.grad.detach().clone()) for place, one in state.held(optimizer) if one.grad is not None
            ]
            self._waiting.append(lambda _: self._late_gradients(copies))

    def _late_gradients(self, copies: Sequence[tuple[str, Tensor, Tensor]]) -> None:
        self._recorder.add(kinds.GRADIENT, [(self._names.of(one, place), grad) for place, one, grad in copies])

    def _first_call(self, module: nn.Module, before: list[Leaf], given: list[Leaf], output: list[Leaf]) -> None:
        kept = [[(name, _kept(value)) for name, value in some] for some in (before, given, output)]

        def late(model: nn.Module) -> None:
            inner = getattr(module, "_orig_mod", getattr(module, "module", module))
            if module is model or inner is model:
                self._called[id(model)] = module
                for kind, some in zip((kinds.CALL_STATE, kinds.INPUT, kinds.OUTPUT), kept, strict=True):
                    self._recorder.add(kind, some)

        self._waiting.append(late)


def _loss(given: Any) -> Tensor:
    """Return the loss.

    Raises:
        SpecError: If it is not a tensor with one number, whose bits are compared.
    """
    if not isinstance(given, Tensor) or given.numel() != 1:
        raise SpecError(
            f"a hand-written loop must yield its loss as a tensor with one number; it yielded {given!r}.",
            hint="yield the loss itself, without .item().",
        )
    return given.detach().reshape(())


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
