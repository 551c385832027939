"""A device in Python: its tensors are not the host's, and what mixes both raises, as on a GPU; the host computes for it.

So a machine without a GPU tells whether all that meets in an operation is on the device. Bits are the host's, and random
numbers come from the host's generator: what is trained here must be equal to what the host trains.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "pretended"
_ACROSS = {"copy_", "_to_copy", "set_", "_copy_from"}
"""Operators that go from one device to another."""
_registered: list[torch.library.Library] = []
_watchers: list[Watcher] = []


class Pretended(Tensor):
    """A tensor of the device; the host's tensor that it stands for is ``raw``."""

    raw: Tensor
    known: set[int]

    @staticmethod
    def __new__(cls, raw: Tensor) -> Self:
        """Return a tensor that says that it is on the device."""
        return torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    @property
    def data(self) -> Tensor:
        """Its values, without a graph."""
        return self.detach()

    @data.setter
    def data(self, value: Pretended) -> None:
        Tensor.data.__set__(self, value)
        self.raw = value.raw

    def tolist(self) -> Any:
        """Return its values, which waits for the device."""
        return self.cpu().tolist()

    def record_stream(self, stream: Any) -> None:
        """Note that a stream uses the memory, as the allocator of a GPU does."""
        self.known.add(id(stream))

    def __repr__(self, **_: Any) -> str:
        """Return what it holds."""
        return f"pretended {self.raw!r}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator on the host, for tensors of the device."""
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    given = tree_leaves((args, kwargs))
    own = {id(one.raw): one for one in given if isinstance(one, Pretended)}
    name = func.overloadpacket.__name__
    if own and name not in _ACROSS:
        _require_one_device(name, given)
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    here = bool(own) if device is None else torch.device(device).type == NAME
    if name == "copy_":
        if isinstance(args[0], Pretended) and not isinstance(args[1], Pretended):
            _tell("copied", args[0])
        return args[0]
    return tree_map(lambda one: _wrapped(one, own) if here else one, found)


class Watcher(Protocol):
    """Learns what happens to the device's memory."""

    def allocated(self, tensor: Pretended) -> None:
        """Note a new tensor."""

    def copied(self, tensor: Pretended) -> None:
        """Note a tensor that was copied from the host."""


@contextmanager
def watched(by: Watcher) -> Iterator[None]:
    """Tell ``by`` of each allocation and copy."""
    _watchers.append(by)
    try:
        yield
    finally:
        _watchers.pop()


def _tell(what: str, tensor: Pretended) -> None:
    for one in _watchers:
        getattr(one, what)(tensor)


def _raw(one: Any) -> Any:
    return one.raw if isinstance(one, Pretended) else one


def _wrapped(one: Any, own: dict[int, Pretended]) -> Any:
    if not isinstance(one, Tensor) or isinstance(one, Pretended):
        return one
    if id(one) in own:
        return own[id(one)]
    made = Pretended(one)
    _tell("allocated", made)
    return made


def _require_one_device(name: str, given: list[Any]) -> None:
    """Refuse the host's tensors beside the device's; a single number of the host is one, as on a GPU."""
    for one in given:
        if isinstance(one, Tensor) and not isinstance(one, Pretended) and one.dim():
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got {NAME}:0 and cpu")


def _factory(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _run(func, args, kwargs)


class Made(TorchFunctionMode):
    """Lets ``torch.tensor(values, device=)`` copy from the host: torch would ask the device's own code for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make a tensor on the host first."""
        given = dict(kwargs or {})
        device = given.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None or torch.device(device).type != NAME:
            return func(*args, **given)
        return func(*args, **{**given, "device": "cpu"}).to(device)


def register() -> torch.device:
    """Let torch know the device, once a process, and return it."""
    if not _registered:
        _setup_privateuseone_for_python_backend(NAME)
        library = torch.library.Library("_", "IMPL")
        library.fallback(_factory, "PrivateUse1")
        _registered.append(library)
    return torch.device(NAME, 0)
