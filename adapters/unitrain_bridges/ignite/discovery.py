"""Discovers the modules, optimizers and engines that an Ignite program's functions refer to."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from unitrain_bridges.ignite.bare import class_of, has_weights, held_by, is_a, items_in, named_modules_in
from unitrain_ignite._compat import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from unitrain.interop.ignite_programs import IgniteProgram

DEPTH = 8
"""The search depth: handler, wrapper, method, object, its attributes, a mapping among them."""

WIDTH = 256
"""The maximum number of collection items searched; large buffers do not hold models."""

_LIBRARIES = ("torch", "ignite", "pytorch_lightning", "lightning", "numpy")
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, Tensor, ModuleType)


@dataclass
class Discovered:
    """The modules and optimizers found, by their names in the program.

    Attributes:
        modules: Those that hold weights, each once; none is a part of another.
        optimizers: The optimizers.
        engines: Other engines: evaluators that run inside handlers.
    """

    modules: dict[str, nn.Module] = field(default_factory=dict)
    optimizers: dict[str, Optimizer] = field(default_factory=dict)
    engines: dict[str, Any] = field(default_factory=dict)


def discover(engine: Engine, program: IgniteProgram | None = None) -> Discovered:
    """Return the modules and optimizers that the process function and the handlers refer to, or the given ones."""
    search = _Search(engine)
    search.visit(engine._process_function, "step", 0)  # noqa: SLF001 - there is no public way to it
    for handlers in list(engine._event_handlers.values()):  # noqa: SLF001 - as above
        for handler, args, kwargs in handlers:
            search.visit(handler, "handler", 0)
            search.visit((*args, *kwargs.values()), "argument", 0)
    found = search.found
    if program is not None and program.modules is not None:
        found.modules = _numbered("model", program.modules)
    else:
        found.modules = _outermost(found.modules)
    if program is not None and program.optimizers is not None:
        found.optimizers = _numbered("optimizer", program.optimizers)
    return found


def wrap_modules(modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a module that has ``modules`` as its parts, and changes nothing about them."""
    held = _Held()
    for name, module in modules.items():
        free = name.replace(".", "_")
        while hasattr(held, free):
            free += "_"
        held.add_module(free, module)
    return held


class _Held(nn.Module):
    """Lists its parts without their own ``named_modules``: a Trainer asks for modules and parameters before a run."""

    def named_modules(self, memo: Any = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[Any]:  # noqa: ARG002 - torch's signature
        """Yield the module and all its parts, by their names."""
        yield from named_modules_in(self, prefix)


def references(function: FunctionType) -> dict[str, Any]:
    """Return a function's references by name: its closure, its defaults, and the globals that it names."""
    try:
        names = inspect.getclosurevars(function)
    except ValueError:  # a name that is bound later on
        return dict(zip(function.__code__.co_freevars, _cells(function), strict=False))
    defaults = {f"default_{index}": value for index, value in enumerate(function.__defaults__ or ())}
    modules = [held_by(one) for one in (*names.globals.values(), *names.nonlocals.values()) if is_a(one, ModuleType)]
    own = [held for held in modules if not is_library(held.get("__name__"))]
    imported = {name: held[name] for held in own for name in _named(function, held)}
    return {**imported, **names.globals, **names.nonlocals, **defaults, **(function.__kwdefaults__ or {})}


def named(function: FunctionType, owner: Any) -> list[str]:
    """Return the names in the function's code that ``owner`` itself holds."""
    return _named(function, held_by(owner))


def _named(function: FunctionType, held: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted(set(names_in(function.__code__))) if name in held]


def names_in(code: CodeType) -> Iterator[str]:
    """Yield the globals and attributes named in code, including nested code."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names_in(inner)


def is_library(module: Any) -> bool:
    """Return whether a module belongs to torch or to a framework, which keep references of their own."""
    return _package(module) in _LIBRARIES


def _package(module: Any) -> str:
    return module.partition(".")[0] if type(module) is str else ""  # a class may have a property of this name


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            yield None


class _Search:
    def __init__(self, own: Engine) -> None:
        self.found = Discovered()
        self._seen: set[int] = {id(own)}
        self._kept: list[Any] = []  # so that no id is used twice

    def visit(self, value: Any, name: str, depth: int) -> None:
        """Visit a value and its references."""
        own = class_of(value)
        if issubclass(own, _PLAIN) or id(value) in self._seen or depth > DEPTH:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        for kind, collected in self._wanted():
            if issubclass(own, kind) and not _is_unmade(value):
                _put(collected, name, value)
                return
        for part, inner in _parts(value):
            self.visit(inner, part or name, depth + 1)

    def _wanted(self) -> Iterable[tuple[type, dict[str, Any]]]:
        return (
            (nn.Module, self.found.modules),
            (Optimizer, self.found.optimizers),
            (Engine, self.found.engines),
        )


def _is_unmade(value: Any) -> bool:
    """Return whether a class wraps an optimizer without calling torch's constructor: its inner one is what steps."""
    return is_a(value, Optimizer) and "_optimizer_step_post_hooks" not in held_by(value)


def _put(collected: dict[str, Any], name: str, value: Any) -> None:
    free, count = name, 1
    while free in collected:
        count += 1
        free = f"{name}_{count}"
    collected[free] = value


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return the references of a value with their names; an empty name stands for the value's own."""
    own = class_of(value)
    for kind, parts in _PARTS.items():
        if issubclass(own, kind):
            return parts(value)
    items = items_in(value)
    if items is not None:
        return items[:WIDTH]
    if _package(type(value).__module__) == "torch":
        return []  # loaders, data sets, generators
    held = [(str(name), one) for name, one in list(held_by(value).items())[:WIDTH]]
    call = inspect.getattr_static(type(value), "__call__", None)
    return [*held, ("", call)] if isinstance(call, FunctionType) else held


def _of_function(value: FunctionType) -> list[tuple[str, Any]]:
    return [] if _package(value.__module__) == "torch" else list(references(value).items())


_PARTS: dict[type, Callable[[Any], list[tuple[str, Any]]]] = {
    functools.partial: lambda one: [("", one.func), *(("", arg) for arg in one.args), *one.keywords.items()],
    MethodType: lambda one: [("", one.__func__), ("", one.__self__)],
    FunctionType: _of_function,
    LRScheduler: lambda one: [("optimizer", held_by(one).get("optimizer"))],
}


def _numbered(name: str, given: Iterable[Any]) -> dict[str, Any]:
    every = list(given)
    return {name if len(every) == 1 else f"{name}_{index}": one for index, one in enumerate(every)}


def _outermost(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Omit modules without weights, such as losses, and modules that are part of another."""
    inner = {id(part) for module in modules.values() for _, part in list(named_modules_in(module))[1:]}
    return {name: one for name, one in modules.items() if id(one) not in inner and has_weights(one)}
