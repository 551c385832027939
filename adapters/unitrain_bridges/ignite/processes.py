"""Refuses processes that would train on Ignite itself: a script's engines are redirected in its own process only."""

from __future__ import annotations

import functools
import multiprocessing
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError
from unitrain_bridges.ignite.bare import held_by, is_a
from unitrain_bridges.ignite.discovery import is_library, names_in, references
from unitrain_ignite._compat import Engine, Parallel, spawning_models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPTH = 6
_ENGINES = "ignite.engine"


@contextmanager
def processes_refused(framework: str) -> Iterator[None]:
    """Refuse Ignite's launchers meanwhile, and processes whose function runs Ignite engines.

    A forked process is allowed: it inherits the redirection.
    """
    with ExitStack() as stack:
        stack.enter_context(_replaced(Parallel, "__init__", _launcher, framework))
        for model in spawning_models():
            stack.enter_context(_replaced(model, "spawn", _spawn, framework))
        stack.enter_context(_replaced(BaseProcess, "start", _starter, framework))
        yield


@contextmanager
def _replaced(owner: type, name: str, make: Callable[[Any, str], Any], framework: str) -> Iterator[None]:
    original = vars(owner)[name]
    setattr(owner, name, make(original, framework))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _launcher(original: Any, framework: str) -> Any:
    @functools.wraps(original)
    def construct(self: Any, backend: Any = None, nproc_per_node: Any = None, *args: Any, **kwargs: Any) -> None:
        original(self, backend, nproc_per_node, *args, **kwargs)
        if backend is not None and nproc_per_node is not None:
            call = f"idist.Parallel(backend={backend!r}, nproc_per_node={nproc_per_node})"
            raise _refusal(call, framework, nproc_per_node)

    return construct


def _spawn(_: Any, framework: str) -> Any:
    def spawn(*_: Any, nproc_per_node: int = 1, backend: Any = None, **__: Any) -> None:
        raise _refusal(f"idist.spawn({backend!r}, nproc_per_node={nproc_per_node})", framework, nproc_per_node)

    return staticmethod(spawn)


def _starter(original: Any, framework: str) -> Any:
    @functools.wraps(original)
    def start(process: BaseProcess) -> None:
        function = None if _is_forked(process) else _with_engines(process)
        if function is not None:
            raise _refusal(f"a process that runs {function}()", framework)
        original(process)

    return start


def _refusal(started: str, framework: str, count: int = 2) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{started} would train on Ignite instead of {framework!r}, which runs a script's engines in one process.",
        hint="run the script with python, train in its own process (idist.Parallel without a backend), or use a"
        f" TrainSpec with devices={max(count, 2)}.",
    )


def _is_forked(process: Any) -> bool:
    default = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    method = process._start_method or default  # noqa: SLF001 - there is no public way, so below
    return bool(method == "fork")


def _with_engines(process: Any) -> str | None:
    """Return the name of the process's function that runs engines."""
    given = [process._target, *process._args, *process._kwargs.values()]  # noqa: SLF001
    own = type(process).run
    for one in given if own is BaseProcess.run else [own, *given]:
        if any(_runs_engines(function, set(), 0) for function in _functions_of(one)):
            return getattr(one, "__qualname__", type(one).__name__)
    return None


def _runs_engines(function: FunctionType, seen: set[int], depth: int) -> bool:
    """Return whether a function, or one that it calls, names anything of ``ignite.engine``."""
    if id(function) in seen or depth > DEPTH or _is_elsewhere(function.__module__):
        return False
    seen.add(id(function))
    names = set(names_in(function.__code__))
    known = function.__globals__  # of nested functions too
    used = [*references(function).values(), *(known[name] for name in names if name in known)]
    if _ENGINES in names or any(_is_engine(one, names) for one in used):
        return True
    return any(_runs_engines(inner, seen, depth + 1) for one in used for inner in _functions_of(one))


def _is_elsewhere(module: Any) -> bool:
    return is_library(module) or str(module).partition(".")[0].startswith("unitrain")


def _is_engine(value: Any, names: set[str]) -> bool:
    if is_a(value, ModuleType):
        module = held_by(value).get("__name__")
        return module == _ENGINES or (module == "ignite" and "engine" in names)
    if is_a(value, FunctionType):
        return str(value.__module__).startswith(_ENGINES)
    return issubclass(value, Engine) if is_a(value, type) else is_a(value, Engine)


def _functions_of(value: Any) -> list[FunctionType]:
    """Return the functions that a call of a value may run."""
    if is_a(value, FunctionType):
        return [value]
    if is_a(value, MethodType):
        return _functions_of(type(value.__self__))
    if is_a(value, functools.partial):
        return _functions_of(value.func)
    if is_a(value, type):
        return (
            [] if _is_elsewhere(value.__module__) else [one for one in vars(value).values() if is_a(one, FunctionType)]
        )
    return []
