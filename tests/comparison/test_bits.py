"""Digests and distances of values."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unitrain.testing.comparison.bits import decimal, digest, gap, hexadecimal
from unitrain.testing.comparison.leaves import leaves

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]
SMALL = [torch.float8_e4m3fn, torch.float8_e5m2]


def same(left, right):
    """Return whether two tensors are equal, as both ways say."""
    by_digest = digest([("", left)]) == digest([("", right)])
    assert by_digest == (gap(left, right) is None)
    return by_digest


def steps(value, count):
    """Return the neighbour of a value, ``count`` steps up."""
    up = torch.tensor(math.inf, dtype=value.dtype)
    for _ in range(count):
        value = torch.nextafter(value, up)
    return value


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("start", [1.0, -1.0, 0.0, 3e-5, -3e-5])
def test_the_distance_counts_neighbours(dtype, count, start):
    value = torch.tensor([[0.5, start], [start, 2.0]], dtype=dtype)
    other = value.clone()
    other[1, 0] = steps(other[1, 0], count)
    found = gap(value, other)
    assert (found.what, found.index, found.ulp, found.max_ulp) == ("values", (1, 0), count, count)
    assert (found.differing, found.elements) == (1, 4)
    assert not same(value, other)


def test_the_distance_goes_through_zero():
    for dtype in FLOATS:
        tiny = steps(torch.tensor(0.0, dtype=dtype), 1)
        assert gap(-tiny, tiny).ulp == 2
        assert gap(torch.tensor(-0.0, dtype=dtype), torch.tensor(0.0, dtype=dtype)).ulp == 0


@given(st.floats(width=64, allow_nan=False), st.floats(width=64, allow_nan=False))
def test_the_distance_of_doubles_is_that_of_their_bits(left, right):
    def place(value):
        bits = struct.unpack("<q", struct.pack("<d", value))[0]
        return bits if bits >= 0 else -(2**63) - bits

    found = gap(torch.tensor([left], dtype=torch.float64), torch.tensor([right], dtype=torch.float64))
    equal = struct.pack("<d", left) == struct.pack("<d", right)
    assert (found is None) == equal
    if found is not None:
        assert found.ulp == found.max_ulp == abs(place(left) - place(right))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_the_distance_of_integers_is_their_difference(dtype):
    left, right = torch.tensor([1, 2, 100], dtype=torch.int64), torch.tensor([1, 5, 90], dtype=torch.int64)
    found = gap(left.to(dtype), right.to(dtype))
    assert (found.index, found.ulp, found.max_ulp, found.differing) == ((1,), 3, 10, 2)
    assert found.values == ("2", "5")
    assert same(left.to(dtype), left.to(dtype))


def test_the_largest_integers_do_not_overflow():
    ends = torch.iinfo(torch.int64)
    left, right = torch.tensor([ends.min]), torch.tensor([ends.max])
    assert gap(left, right).ulp == 2**64 - 1
    assert gap(torch.tensor([2**63], dtype=torch.uint64), torch.tensor([2**63 - 1], dtype=torch.uint64)).ulp == 1


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_values_of_eight_bits_are_compared(dtype):
    left, right = torch.tensor([1.0, 2.0]).to(dtype), torch.tensor([1.0, 2.5]).to(dtype)
    assert gap(left, right).index == (1,)
    assert same(left, left.clone())
    assert not same(left, right)


def test_bools_and_complex_numbers_are_compared():
    assert gap(torch.tensor([True, False]), torch.tensor([True, True])).ulp == 1
    left = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    right = left.clone()
    right.imag[1] = steps(right.imag[1], 2)
    found = gap(left, right)
    assert (found.index, found.ulp, found.bits) == ((1,), 2, ("0x40400000 0xc0800000", "0x40400000 0xc07ffffe"))
    assert found.values == ("3-4j", "3-3.99999952j")
    assert same(left, left.clone())
    assert same(left.conj(), torch.conj_physical(left))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_equals_nan_whatever_its_bits(dtype):
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    quiet = torch.tensor([math.nan, 1.0], dtype=dtype)
    other = (quiet.view(integers) | 1).view(dtype)
    assert not torch.equal(quiet.view(integers), other.view(integers))
    assert math.isnan(other[0])
    other[1] = 1.0
    assert same(quiet, other)
    found = gap(quiet, torch.tensor([1.0, 1.0], dtype=dtype))
    assert (found.index, found.ulp, found.max_ulp, found.values) == ((0,), None, None, ("nan", "1"))


def test_zeros_of_both_signs_differ():
    assert not same(torch.tensor(0.0), torch.tensor(-0.0))
    assert torch.equal(torch.tensor(0.0), torch.tensor(-0.0))  # which would not see it


def test_types_and_shapes_belong_to_a_value():
    one = torch.ones(2, 3)
    assert gap(one, one.double()).values == ("float32", "float64")
    assert gap(one, torch.ones(3, 2)).values == ("(2, 3)", "(3, 2)")
    assert gap(one, 1.0).what == "type"
    assert not same(one, torch.ones(6))
    assert not same(one, one.to(torch.int32))
    assert not same(torch.empty(0, 2), torch.empty(2, 0))
    assert digest([("a", one)]) != digest([("b", one)])


def test_strides_and_layouts_do_not():
    value = torch.arange(6.0).view(2, 3)
    assert same(value.t().contiguous().t(), value)
    assert same(value[:, :2], value[:, :2].clone())
    assert same(value.to_sparse(), value)


@given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.data())
def test_one_changed_bit_is_noticed(values, data):
    value = torch.tensor(values, dtype=torch.float32)
    index = data.draw(st.integers(0, len(values) - 1))
    bit = data.draw(st.integers(0, 31))
    other = value.view(torch.int32).clone()
    other[index] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)
    both_nan = math.isnan(value[index]) and math.isnan(other.view(torch.float32)[index])
    assert same(value, other.view(torch.float32)) == both_nan


def test_numbers_and_texts_of_python_are_compared():
    assert gap(1.0, 1.0000000000000002).ulp == 1
    assert gap(float("nan"), float("nan")) is None
    assert gap(True, False).ulp == 1
    assert gap(3, 5).ulp == 2
    assert gap(10**30, 10**30 + 1).values == (str(10**30), str(10**30 + 1))
    assert gap("a", "b").bits == ("", "")
    assert gap(1, 1.0).values == ("int", "float")
    assert gap("a", "a") is None


def test_values_are_shown_so_that_they_can_be_told_apart():
    for dtype in FLOATS:
        value = torch.tensor(0.1, dtype=dtype)
        assert decimal(value) != decimal(steps(value, 1))
        assert torch.equal(torch.tensor(float(decimal(value)), dtype=dtype), value)
    assert hexadecimal(torch.tensor(1.0)) == "0x3f800000"
    assert hexadecimal(torch.tensor(-1, dtype=torch.int8)) == "0xff"


class Point:
    def __init__(self, x):
        self.x = x


def test_leaves_have_paths():
    batch = {"x": torch.ones(1), "rest": [1, ("a", None)], "many": np.arange(3)}
    found = dict(leaves(batch, "batch"))
    assert list(found) == [
        "batch['x']",
        "batch['rest'][0]",
        "batch['rest'][1][0]",
        "batch['rest'][1][1]",
        "batch['many']",
    ]
    assert torch.equal(found["batch['many']"], torch.arange(3))
    assert dict(leaves(Point(1), "p")) == {"p": "<Point>"}
    assert dict(leaves([], "p")) == {"p": "<list>"}
    around = [1]
    around.append(around)
    assert dict(leaves(around)) == {"[0]": 1}
