"""Batches of many shapes, each with a state that is easy to lose, and what to expect of a copy."""

from __future__ import annotations

import operator
from collections import OrderedDict, UserDict, UserList, defaultdict, namedtuple
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs
import torch
from tensordict import TensorDict, tensorclass
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
from torch_geometric.data import Batch, Data, HeteroData


@dataclass
class Plain:
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Frozen:
    x: Tensor
    y: Tensor


@dataclass(frozen=True, slots=True)
class Slots:
    x: Tensor
    y: Tensor


@dataclass
class Late:
    """A field that is set afterwards."""

    x: Tensor
    y: Tensor
    note: Any = field(init=False, default=None)


@dataclass
class Computed:
    """Makes its target from its input, unless it is replaced afterwards; it must not be made again."""

    x: Tensor
    start: InitVar[float]
    y: Tensor = field(init=False)

    def __post_init__(self, start):
        self.y = torch.full((len(self.x),), start)


class Named(NamedTuple):
    x: Tensor
    y: Tensor


class Marked(namedtuple("Marked", "x y")):  # noqa: PYI024
    """A named tuple with a constructor of its own."""

    __slots__ = ()

    def __new__(cls, both):
        return super().__new__(cls, *both)


class Fixed(tuple):
    __slots__ = ()

    def __new__(cls, x, y):
        return super().__new__(cls, (x, y))


class Tagged(dict):
    def __init__(self, tag, **items):
        super().__init__(**items)
        self.tag = tag


class Ordered(OrderedDict):
    def __init__(self, tag, x, y):
        super().__init__(x=x, y=y)
        self.tag = tag

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        setattr(self, key, value)


class Listed(list):
    def __init__(self, tag, x, y):
        super().__init__([x, y])
        self.tag = tag


class Encoding(UserDict):
    """As Hugging Face's BatchEncoding: items are attributes, and ``to`` changes the object."""

    def __init__(self, data=None, n=None):
        super().__init__(data)
        self.n = n

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device):
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


class Own(Mapping):
    """A mapping that keeps its items in an attribute."""

    def __init__(self, tag, **items):
        self.tag, self._items = tag, items

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


class ImageList:
    """As torchvision's: made from other arguments, with ``to(device)`` only."""

    def __init__(self, x, y, tag):
        self.x, self.y, self.tag = x, y, tag

    def to(self, device):
        return ImageList(self.x.to(device), self.y.to(device), self.tag)


class InPlace(ImageList):
    """Its ``to`` changes the object and returns nothing."""

    def to(self, device):
        self.x, self.y = self.x.to(device), self.y.to(device)


class Hidden:
    """Shows no tensor; its ``to`` takes a dtype as a module's does."""

    def __init__(self, x, y):
        self._get = lambda: (x, y)

    x = property(lambda self: self._get()[0])
    y = property(lambda self: self._get()[1])

    def to(self, where):
        if isinstance(where, torch.dtype):
            return Hidden(self.x.to(where), self.y)
        return Hidden(self.x.to(where), self.y.to(where))


@attrs.frozen
class Attrs:
    x: Tensor
    y: Tensor
    tag: str = "t"


@tensorclass
class Class:
    x: Tensor
    y: Tensor


class Node:
    """A pytree of its own."""

    def __init__(self, x, y):
        self.x, self.y = x, y


torch.utils._pytree.register_pytree_node(Node, lambda node: ([node.x, node.y], None), lambda items, _: Node(*items))


@dataclass
class Loop:
    """Holds itself."""

    x: Tensor
    y: Tensor
    own: Any = None


def _with(made, **attributes):
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def _looped(x, y):
    made = Loop(x, y)
    return _with(made, own=made)


def _defaulted(x, y):
    made = defaultdict(list)
    made.update(x=x, y=y)
    return made


def _hetero(x, y):
    made = HeteroData()
    made["node"].x, made["node"].y = x, y
    return made


_attributes = operator.attrgetter("x", "y")
_keys = operator.itemgetter("x", "y")
_items = operator.itemgetter(0, 1)


@dataclass(frozen=True)
class Shape:
    """A shape of a batch.

    Attributes:
        make: Makes one of ``x`` and ``y``.
        get: Takes them out.
        kept: Whether the rest is as it was.
    """

    make: Callable[[Tensor, Tensor], Any]
    get: Callable[[Any], tuple[Tensor, Tensor]] = _attributes
    kept: Callable[[Any], bool] = lambda batch: True


SHAPES = {
    "tuple": Shape(lambda x, y: (x, y), _items),
    "nested": Shape(
        lambda x, y: {"a": [x, {"b": (y, "text", None)}]},
        lambda b: (b["a"][0], b["a"][1]["b"][0]),
        lambda b: b["a"][1]["b"][1:] == ("text", None),
    ),
    "named tuple": Shape(Named),
    "named tuple, own constructor": Shape(lambda x, y: Marked((x, y))),
    "tuple, own constructor": Shape(Fixed, _items),
    "dataclass": Shape(Plain),
    "frozen dataclass": Shape(Frozen),
    "frozen dataclass with slots": Shape(Slots),
    "late field": Shape(lambda x, y: _with(Late(x, y), note="n"), kept=lambda b: b.note == "n"),
    "computed field": Shape(lambda x, y: _with(Computed(x, 7.0), y=y)),
    "loop": Shape(_looped, kept=lambda b: b.own is b),
    "dict with a tag": Shape(lambda x, y: Tagged("t", x=x, y=y), _keys, lambda b: b.tag == "t"),
    "ordered with a tag": Shape(
        lambda x, y: Ordered("t", x, y), _keys, lambda b: b.tag == "t" and b.x is b["x"] and list(b) == ["x", "y"]
    ),
    "defaultdict": Shape(_defaulted, _keys, lambda b: b["new"] == []),
    "list with a tag": Shape(lambda x, y: Listed("t", x, y), _items, lambda b: b.tag == "t"),
    "UserDict": Shape(lambda x, y: Encoding({"x": x, "y": y}, n=3), _keys, lambda b: b.n == 3),
    "UserList": Shape(lambda x, y: UserList([x, y]), _items),
    "own mapping": Shape(lambda x, y: Own("t", x=x, y=y), _keys, lambda b: b.tag == "t"),
    "mapping proxy": Shape(lambda x, y: MappingProxyType({"x": x, "y": y}), _keys),
    "namespace": Shape(lambda x, y: SimpleNamespace(x=x, y=y)),
    "attrs": Shape(Attrs, kept=lambda b: b.tag == "t"),
    "pytree": Shape(Node),
    "own to()": Shape(lambda x, y: ImageList(x, y, "t"), kept=lambda b: b.tag == "t"),
    "own to() in place": Shape(lambda x, y: InPlace(x, y, "t"), kept=lambda b: b.tag == "t"),
    "own to() of hidden tensors": Shape(Hidden),
    "TensorDict": Shape(
        lambda x, y: TensorDict({"x": x, "y": y}, batch_size=[len(x)]), _keys, lambda b: b.batch_size == b["y"].shape
    ),
    "tensorclass": Shape(lambda x, y: Class(x, y, batch_size=[len(x)]), kept=lambda b: b.batch_size == b.y.shape),
    "graph": Shape(lambda x, y: Data(x=x, y=y, name="g"), kept=lambda b: b.name == "g"),
    "graphs": Shape(
        lambda x, y: Batch.from_data_list([Data(x=a[None], y=b[None]) for a, b in zip(x, y, strict=True)]),
        kept=lambda b: b.num_graphs == len(b.y) and not b.ptr.is_floating_point(),
    ),
    "hetero graph": Shape(_hetero, lambda b: (b["node"].x, b["node"].y)),
}
"""By name; ``x`` is floating, ``y`` whole numbers."""


def packed(x: Tensor) -> Any:
    """Return the rows of ``x`` as sequences of different lengths."""
    return pack_sequence([row[: 1 + index % len(row)] for index, row in enumerate(x)], enforce_sorted=False)
