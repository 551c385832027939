"""The job and result files exchanged with started processes."""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from unitrain.distributed.health.failure import Failure
from unitrain.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_ORDER = "order.pickle"
_RESULT = "result.pickle"


@dataclass(frozen=True)
class Job:
    """The job of the started processes.

    Attributes:
        make: Class of the trainer.
        framework: The adapter.
        options: The arguments of the trainer.
        handlers: The arguments of ``trainer.on``.
        method: The trainer's method: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        arguments: The arguments of the method, by name.
        seed: Seed of the generators, to which each process adds its rank.
        threads: Number of torch threads of each process.
    """

    make: Any
    framework: Any
    options: Mapping[str, Any]
    handlers: tuple[Any, ...]
    method: str
    arguments: Mapping[str, Any]
    seed: int
    threads: int


def send(folder: Path, order: Job) -> None:
    """Write ``order`` into ``folder``.

    Raises:
        SpecError: If something cannot be sent; the message names it.
    """
    hint = (
        "define functions and classes at module level (no lambdas, no inner functions), or start the script with"
        " torchrun, which needs no pickling."
    )
    data = serialize(order, pickle.dumps, hint)
    if b"__main__" in data and not hasattr(sys.modules["__main__"], "__file__"):
        names = [name for name, part in _parts(order) if b"__main__" in pickle.dumps(part)]
        raise SpecError(
            "started processes import what they need, but names defined in a notebook or at a prompt cannot be"
            f" imported: {', '.join(names)}.",
            hint="move the model, functions and callbacks to a file, such as model.py, and import them; or use"
            " devices=1.",
        )
    (folder / _ORDER).write_bytes(data)


def serialize(order: Job, dumps: Callable[[Any], bytes], hint: str) -> bytes:
    """Serialize ``order`` as one object, so that shared objects stay shared.

    Args:
        order: The job to serialize.
        dumps: The serializer.
        hint: The hint if it cannot be serialized.

    Raises:
        SpecError: If something cannot be sent; the message names it.
    """
    try:
        return dumps(order)
    except Exception as error:
        names = [name for name, part in _parts(order) if not travels(part, dumps)]
        raise SpecError(
            f"objects for started processes must be picklable; these are not: {', '.join(names)} ({error}).",
            hint=hint,
        ) from error


def receive(folder: Path) -> Job:
    """Return the job in ``folder``, to which only this user's processes can write."""
    order: Job = pickle.loads((folder / _ORDER).read_bytes())  # noqa: S301 - from the process that started this one
    return order


def write_result(folder: Path, result: Any, dumps: Callable[[Any], bytes] = pickle.dumps) -> None:
    """Write the result of the first process."""
    (folder / _RESULT).write_bytes(dumps(result))


def read_result(folder: Path) -> Any:
    """Return the result of the first process."""
    return pickle.loads((folder / _RESULT).read_bytes())  # noqa: S301 - from a process that this one started


def report(folder: Path, failure: Failure) -> None:
    """Write an error report atomically."""
    part = folder / f"failure-{failure.rank}.part"
    part.write_text(json.dumps(asdict(failure)), encoding="utf-8")
    part.replace(part.with_suffix(".json"))


def write_pid(folder: Path, rank: int) -> None:
    """Write the id of this process, which is also that of its process group."""
    (folder / f"process-{rank}.txt").write_text(str(os.getpid()), encoding="utf-8")


def pids(folder: Path) -> list[int]:
    """Return the ids of the started processes."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("process-*.txt")]
    return [int(text) for text in texts if text]


def first_failure(folder: Path) -> Failure | None:
    """Return the first error; errors that only report the loss of another process come last."""
    found = []
    for path in folder.glob("failure-*.json"):
        failure = Failure(**json.loads(path.read_text(encoding="utf-8")))
        found.append((failure.is_of_others, path.stat().st_mtime_ns, failure))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _parts(order: Job) -> Iterator[tuple[str, Any]]:
    """Yield the named parts of a job."""
    for name, option in order.options.items():
        yield from _within(name, option)
    for name, argument in order.arguments.items():
        yield from _within(name, argument)
    for _, handler in order.handlers:
        yield f"the handler {getattr(handler, '__qualname__', handler)!r}", handler


_LOADER = ("dataset", "sampler", "collate_fn", "worker_init_fn")


def _within(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the named parts of ``value`` with their names."""
    parts = _named_parts(name, value)
    if parts is None:
        yield name, value
        return
    for inner, part in parts.items():
        yield from _within(inner, part)


def _named_parts(name: str, value: Any) -> dict[str, Any] | None:
    if is_dataclass(value) and not isinstance(value, type):
        return {f"{name}.{one.name}": getattr(value, one.name) for one in fields(value)}
    if isinstance(value, (list, tuple)):
        return {f"{name}[{index}]": item for index, item in enumerate(value)}
    if isinstance(value, dict):
        return {f"{name}[{key!r}]": item for key, item in value.items()}
    if all(hasattr(value, part) for part in _LOADER):
        return {f"{name}.{part}": getattr(value, part) for part in _LOADER}
    return None


def travels(part: Any, dumps: Callable[[Any], bytes]) -> bool:
    """Return whether ``part`` can be sent to another process."""
    try:
        dumps(part)
    except Exception:  # noqa: BLE001 - whatever its reason, it cannot be sent
        return False
    return True
