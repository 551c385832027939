"""What is written can be read: every state is refused at once with its place, or every reader gets an equal one."""

from __future__ import annotations

import argparse
import datetime as dt
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from torch import nn

from unitrain import CheckpointError
from unitrain.checkpoint import gate, io
from unitrain.checkpoint import sharded_files as parts
from unitrain.checkpoint.gate import admitted, restored
from unitrain.checkpoint.layout import KEY

FRAMEWORKS = ["reference", "lightning", "ignite"]


class Kind(Enum):
    A = 1


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Dict(dict):
    pass


class List(list):
    pass


class Marked(torch.Tensor):
    pass


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what a user may have


def tagged():
    made = nn.Parameter(torch.ones(2))
    made.tag = Path("x")
    return made


def holding_itself():
    made = {}
    made["me"] = [made]
    return made


def deep():
    made = []
    for _ in range(500):
        made = [made]
    return made


KEPT = {
    "plain": {"a": [1, 2.5, "x", None, True, b"\xff", 1j, (1, 2)], 1: {2: 3}, None: 0, (1, "a"): 2},
    "not finite": [float("inf"), -float("inf"), -0.0],
    "large integers": [2**70, -(2**5000), 2**2000],
    "no bytes": [b"", bytearray(), bytearray(b"x")],
    "surrogates": "\ud800",
    "numpy numbers": [np.float64(0.1), np.float32(0.1), np.float16(0.1), np.int8(-1), np.uint64(2**63), np.bool_(True)],
    "numpy complex": np.complex64(1 + 2j),
    "numpy key": {np.int64(1): 2},
    "path": [Path("a/b"), PurePosixPath("c"), PureWindowsPath("d\\e")],
    "time": [
        dt.date(2024, 1, 2),
        dt.time(3, 4, 5, 6),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        dt.timedelta(days=-1, microseconds=3),
    ],
    "decimal": Decimal("0.10"),
    "sets": [{1, "a", None}, frozenset({2}), set(), frozenset()],
    "counted": [Counter("aab"), OrderedDict(b=1, a=2), deque([1, (2,)], 3), deque([Path("x")])],
    "defaults": [defaultdict(list, a=[1]), defaultdict(None, b=2)],
    "ranges": [range(1, 9, 2), slice(None, 3)],
    "namespaces": [argparse.Namespace(lr=0.1, at=Path("x")), types.SimpleNamespace(a=argparse.Namespace(b=1))],
    "subclasses": [Text("a"), Number(0.1), Level.HIGH, Dict(a=1), List([Path("y")]), Point(1, Path("z"))],
    "mapping": types.MappingProxyType({"a": np.int64(1)}),
    "torch": [torch.device("cuda:1"), torch.float16, torch.Size([1, 2]), torch.strided],
    "within packed": deque([{"a": frozenset({1}), "b": (argparse.Namespace(x=deque([np.float32(0.1)])),)}]),
}
REFUSED = {
    "enum": (Kind.A, r"\.name or \.value"),
    "module": (nn.ReLU(), "state_dict"),
    "class": (nn.ReLU, "name"),
    "lambda": (lambda: 0, "name"),
    "generator": (torch.Generator(), "get_state"),
    "object": (object(), "use tensors"),
    "object array": (np.array([None]), "use tensors"),
    "record": (np.zeros(2, [("a", "i4")]), "use tensors"),
    "long double": (np.longdouble(1), "use tensors"),
    "subclass of time": (type("Stamp", (dt.datetime,), {})(2024, 1, 1), "use tensors"),
    "iterator": (iter([1]), "use tensors"),
    "default factory": (defaultdict(lambda: 0), "name"),
    "itself": (holding_itself(), "once"),
    "deep": (deep(), "flat"),
}


def passed(value):
    """Return ``value`` as a reader gets it, in the place of a callback's state."""
    made = {KEY: {"callbacks": {"Keeper": value}}}
    return restored(admitted(made))[KEY]["callbacks"]["Keeper"]


@pytest.mark.parametrize("name", KEPT)
def test_an_equal_value_is_read(name, tmp_path):
    value = KEPT[name]
    assert passed(value) == value
    io.write(tmp_path / "a.ckpt", {KEY: {"x": value}, "y": 0})
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert parts.read_any(tmp_path / "a.ckpt")[KEY]["x"] == value
    again = parts.read_any(tmp_path / "a.ckpt")
    io.write(tmp_path / "b.ckpt", io.read(tmp_path / "a.ckpt"))  # what was not restored keeps its notes
    assert parts.read_any(tmp_path / "b.ckpt") == again


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", ">f4", "i1", "u2", "u8", "?", "c8", "U3", "S2", "M8[D]", "m8[ns]"])
def test_an_array_keeps_its_dtype_and_its_bits(kind):
    for shape in ((), (0, 2), (2, 3)):
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype("i8").astype(kind)
        found = passed({"array": array})["array"]
        assert (type(found), found.dtype, found.shape) == (np.ndarray, array.dtype, shape)
        assert found.tobytes() == array.tobytes()
    strided = np.arange(12.0).reshape(3, 4)[::-1, ::2]
    assert np.array_equal(passed(strided), strided)


def test_numbers_of_numpy_stay_of_their_kind():
    for number in KEPT["numpy numbers"]:
        assert type(passed(number)) is type(number)
    assert type(passed([defaultdict(list)])[0]) is defaultdict


@pytest.mark.parametrize(
    "make", [lambda: Marked([1.0]), tagged, lambda: nn.Buffer(torch.ones(2))], ids=["class", "attribute", "buffer"]
)
def test_a_tensor_is_written_without_its_class_and_attributes(make, tmp_path):
    value = make()
    io.write(tmp_path / "a.ckpt", {"state_dict": {"w": value}})
    found = io.read(tmp_path / "a.ckpt")["state_dict"]["w"]
    assert torch.equal(found, value.detach().as_subclass(torch.Tensor))


def test_a_tensor_without_values_is_refused():
    with pytest.raises(
        CheckpointError,
        match=r"x is an UninitializedParameter of an uninitialized lazy layer[\s\S]*Hint: run one batch",
    ):
        gate.plain(nn.LazyLinear(2).weight, "x")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(name):
    value, hint = REFUSED[name]
    with pytest.raises(CheckpointError, match=rf"unitrain\['callbacks'\][\s\S]*Hint: .*{hint}"):
        passed({"in": [value]})
    with pytest.raises(CheckpointError, match=r"optimizer_states\[0\]\['param_groups'\]\[0\]|optimizer_states\[0\]"):
        admitted({"optimizer_states": [{"param_groups": [{"kind": value}]}]})


@pytest.mark.parametrize("key", [Path("x"), Kind.A, frozenset({1}), torch.ones(1), object()], ids=type)
def test_a_key_has_no_other_kind(key):
    with pytest.raises(CheckpointError, match="has the key"):
        passed({"in": {key: 1}})


def test_a_form_without_notes_takes_numbers_only(tmp_path):
    io.write(tmp_path / "a.ckpt", {"lr": np.float64(0.1), "array": np.arange(2)})
    found = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert found["lr"] == 0.1
    assert torch.equal(found["array"], torch.arange(2))
    with pytest.raises(CheckpointError, match=r"lr\[0\] is a Path"):
        io.write(tmp_path / "a.ckpt", {"lr": [Path("x")]})
    lost = []
    io.write(tmp_path / "a.ckpt", {"lr": [Path("x")]}, lost)
    assert lost == ["lr[0]: its type, Path (stored as a plain value)"]
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"lr": ["x"]}


# --- the notes of a hostile file --------------------------------------------------------------------------------------


NOTES = {
    "nowhere": [["nowhere"], "Path", None],
    "no dtype": [[KEY, "x"], "numpy.ndarray", "no dtype"],
    "another kind": [[KEY, "x"], "range", None],
    "no factory": [[KEY, "x"], "defaultdict", "eval"],
    "unknown": [[KEY, "x"], "os.system", None],
    "long": [[KEY, "x"] * 5000, "Path", None],
    "text": "not a note",
    "unhashable": [[KEY, "x"], ["unhashable"], None],
    "number": 7,
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_notes_that_do_not_fit_are_refused(note, tmp_path):
    torch.save({KEY: {"x": "text", gate.NOTES: [note]}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="Hint: "):
        parts.read_any(tmp_path / "a.ckpt")
