"""Sees the calls of a model: what goes in, what comes out, and the random state before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from unitrain.testing.comparison.kinds import CALL_STATE, INPUT, OUTPUT
from unitrain.testing.comparison.leaves import leaves
from unitrain.testing.comparison.state import bare_name, random_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from unitrain.testing.comparison.leaves import Leaf
    from unitrain.testing.comparison.recorder import Recorder

    Sink = Callable[[str, Iterable[Leaf]], None]
    """Takes a kind and values."""


def trains(module: nn.Module) -> bool:
    """Return whether a call of ``module`` is of training, not of an evaluation."""
    return module.training and torch.is_grad_enabled()


class Calls:
    """Records the calls of some modules in training.

    Args:
        recorder: Where to.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._handles: list[Any] = []
        self._details: list[Any] = []

    def watch(self, modules: Iterable[nn.Module]) -> None:
        """Record the calls of these modules, each call on its own."""
        for module in modules:
            self._handles.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._after))

    def watch_inside(self, model: nn.Module) -> None:
        """Keep the outputs of all modules within ``model``, in the step whose values are kept."""
        if not self._recorder.keeps or self._details:
            return
        for name, module in model.named_modules():
            self._details.append(module.register_forward_hook(self._keeping(bare_name(name))))

    def leave(self) -> None:
        """Remove all hooks."""
        for one in (*self._handles, *self._details):
            one.remove()
        self._handles, self._details = [], []

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if trains(module):
            with self._recorder.aside():
                self._recorder.add(CALL_STATE, random_states())
                self._recorder.add(INPUT, inputs(args, kwargs))

    def _after(self, module: nn.Module, _: Any, output: Any) -> None:
        if trains(module):
            with self._recorder.aside():
                self._recorder.add(OUTPUT, leaves(output, "output"))

    def _keeping(self, name: str) -> Callable[..., None]:
        def keep(module: nn.Module, _: Any, output: Any) -> None:
            if self._recorder.keeps and trains(module):
                self._recorder.add_module(name, leaves(output, "output"))

        return keep


def inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[Leaf]:
    """Return the arguments of a call as named values."""
    given: Any = args[0] if len(args) == 1 and not kwargs else args
    yield from leaves(given, "input")
    if kwargs:
        yield from leaves(kwargs, "input")


class FirstCalls:
    """Sees the calls of the outermost modules with parameters, while it is not known which of them is the model.

    Args:
        start: Called before each call.
        sink: Called with the module, the random state before, the input and the output of each call.
    """

    def __init__(
        self, start: Callable[[], None], sink: Callable[[nn.Module, list[Leaf], list[Leaf], list[Leaf]], None]
    ) -> None:
        self._start = start
        self._sink = sink
        self._within: list[nn.Module] = []
        self._state: list[Leaf] = []
        self._handle = register_module_forward_pre_hook(self._before)
        self._own: dict[int, Any] = {}

    def leave(self) -> None:
        """Remove all hooks."""
        for one in (self._handle, *self._own.values()):
            one.remove()

    def _before(self, module: nn.Module, _: Any) -> None:
        if self._within:
            if module is self._within[-1]:
                self._within.append(module)
        elif trains(module) and next(module.parameters(), None) is not None:
            self._start()
            self._within.append(module)
            self._state = list(random_states())
            if id(module) not in self._own:  # unlike a global hook, the module's own one gets keyword arguments
                self._own[id(module)] = module.register_forward_hook(self._after, with_kwargs=True)

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._within and module is self._within[-1]:
            self._within.pop()
            if not self._within:
                self._sink(module, self._state, list(inputs(args, kwargs)), list(leaves(output, "output")))
