"""Batches of any shape are moved and converted without a loss, and their samples are counted."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.core.containers import SHAPES, Encoding, Named, Plain, packed
from unitrain import SpecError
from unitrain.data import structure
from unitrain.data.batch import batch_size, describe, to_device, to_dtype
from unitrain.data.counting import counted

META = torch.device("meta")
X, Y = torch.arange(12.0).reshape(6, 2), torch.arange(6)


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def untouched(shape, batch):
    x, y = shape.get(batch)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert (x.dtype, y.dtype, x.device.type) == (torch.float32, torch.int64, "cpu")
    assert shape.kept(batch)


def test_batch_is_moved_whole_and_the_original_stays(shape):
    batch = shape.make(X, Y)
    moved = to_device(batch, META)
    assert type(moved) is type(batch)
    assert [one.device.type for one in shape.get(moved)] == ["meta", "meta"]
    assert shape.kept(batch)
    untouched(shape, batch)


def test_moved_batch_keeps_its_state(shape):
    untouched(shape, to_device(shape.make(X, Y), torch.device("cpu")))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_batch_is_converted_whole_and_the_original_stays(shape, dtype):
    batch = shape.make(X, Y)
    converted = to_dtype(batch, dtype)
    assert type(converted) is type(batch)
    x, y = shape.get(converted)
    assert torch.equal(x, X.to(dtype))
    assert torch.equal(y, Y)
    assert (x.dtype, y.dtype) == (dtype, torch.int64)
    assert shape.kept(converted)
    untouched(shape, batch)


def test_packed_sequence_is_moved_and_converted():
    batch = packed(X)
    converted = to_dtype((batch, packed(Y[:, None].repeat(1, 2))), torch.float64)
    assert torch.equal(converted[0].data, batch.data.double())
    assert converted[1].data.dtype is torch.int64
    assert torch.equal(converted[0].sorted_indices, batch.sorted_indices)
    moved = to_device(batch, META)
    assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")


def test_what_is_no_container_stays_as_it_is():
    for value in ("abc", None, {1, 2}, object(), torch.Size([1, 2]), np.ones(2), torch.max(X, 0)[1].shape):
        assert to_dtype(value, torch.float64) is value
        assert to_device(value, META) is value
    values, indices = to_dtype(torch.max(X, 0), torch.float64)
    assert (values.dtype, indices.dtype) == (torch.float64, torch.int64)


def test_tensor_in_two_places_is_one_tensor_afterwards():
    moved = to_dtype([X, {"again": X}], torch.float64)
    assert moved[0] is moved[1]["again"]


def test_dataclass_that_is_made_anew_would_be_noticed(monkeypatch):
    """The negative control: as it was, by ``dataclasses.replace``."""

    def replaced(self, mapped, value):
        changes = {one.name: mapped(getattr(value, one.name)) for one in dataclasses.fields(value) if one.init}
        return dataclasses.replace(value, **changes, **({"start": 7.0} if hasattr(value, "start") else {}))

    monkeypatch.setattr(structure.Kind, "changed", replaced)
    with pytest.raises(AssertionError):
        test_batch_is_converted_whole_and_the_original_stays(SHAPES["late field"], torch.float64)


IMAGES = [torch.zeros(3, 4, 4 + n) for n in range(5)]
BOXES = [{"boxes": torch.zeros(n + 1, 4), "labels": torch.zeros(n + 1)} for n in range(5)]
T, B = 7, 5

KNOWN = {
    "tensor": (torch.zeros(B, 2), B),
    "number": (torch.tensor(1.0), 1),
    "pair": ((torch.zeros(B, 2), torch.zeros(B)), B),
    "empty pair": ((torch.zeros(0, 2), torch.zeros(0)), 0),
    "time-major": ((torch.zeros(T, B, 2), torch.zeros(B)), B),
    "flat tokens": ((torch.zeros(B, T), torch.zeros(B * T)), B * T),
    "images in a list": ((IMAGES, torch.zeros(B)), B),
    "images of one shape in a list": (([IMAGES[0]] * B, torch.zeros(B)), B),
    "another tensor first": ({"meta": torch.zeros(11), "input": IMAGES, "target": torch.zeros(B)}, B),
    "detection": ((IMAGES, BOXES), B),
    "detection of one": ((IMAGES[:1], BOXES[4:]), 1),
    "masks of one shape": (([IMAGES[0]] * B, [torch.zeros(1, 4, 4)] * B), B),
    "two heads": ((torch.zeros(B, 2), [torch.zeros(B), torch.zeros(B, 3)]), B),
    "two heads by name": ((torch.zeros(T, B), {"a": torch.zeros(B), "b": torch.zeros(B, 3)}), B),
    "boxes of all images": ((torch.zeros(B, 3), {"boxes": torch.zeros(20, 4), "image": torch.zeros(B)}), B),
    "texts": ((torch.zeros(B, 3), ["a"] * B), B),
    "no target": ((torch.zeros(B, 3), None), B),
    "unlabelled": ([torch.zeros(B, 3)], B),
    "triple": ((torch.zeros(B, 3), torch.zeros(B), torch.zeros(B, 1)), B),
    "packed": ((packed(torch.zeros(B, T)), torch.zeros(B)), B),
    "packed alone": (packed(torch.zeros(B, T)), B),
    "packed target": ((torch.zeros(T, B), packed(torch.zeros(B, T))), B),
    "samples": ([(torch.zeros(3, n + 1), n) for n in range(B)], B),
    "samples by name": ([{"x": torch.zeros(3), "y": torch.tensor(1)} for _ in range(B)], B),
    "labels": ({"weights": torch.zeros(3), "pixels": torch.zeros(B, 3), "labels": torch.zeros(B)}, B),
    "encoding": (Encoding({"ids": torch.zeros(B, T), "mask": torch.zeros(B, T)}), B),
    "arrays": ({"x": np.zeros((B, 3)), "y": np.zeros(B)}, B),
    "says so": (SimpleNamespace(batch_size=B, x=torch.zeros(30, 2)), B),
    "object with a target": (SimpleNamespace(x=torch.zeros(T, B), y=torch.zeros(B)), B),
    "nested tensor": (torch.nested.nested_tensor([torch.zeros(n + 1) for n in range(B)], layout=torch.jagged), B),
    **{
        f"shape {name}": (shape.make(X, Y), 6)
        for name, shape in SHAPES.items()
        if name not in ("UserList", "own to() of hidden tensors")
    },
}

GUESSED = {
    "disagreement": ({"a": torch.zeros(3), "b": torch.zeros(B, 2), "c": torch.zeros(B)}, B),
    "disagreement of two": ({"a": torch.zeros(3), "b": torch.zeros(B, 2)}, 3),
    "images of one shape alone": ([[IMAGES[0]] * B], 3),
    "nothing": ({"text": None}, 1),
    "object": (object(), 1),
}


@pytest.mark.parametrize("case", KNOWN)
def test_samples_are_counted_where_the_structure_tells(case):
    batch, number = KNOWN[case]
    assert counted(batch) == (number, True)
    assert batch_size(batch) == number


@pytest.mark.parametrize("case", GUESSED)
def test_guess_is_known_to_be_one(case):
    batch, number = GUESSED[case]
    assert counted(batch) == (number, False)


def test_structure_is_described():
    assert describe(Plain(X, Y)) == "Plain(x=Tensor (6, 2) float32, y=Tensor (6,) int64)"
    assert "Named of 2 (Tensor (6, 2) float32" in describe(Named(X, Y))


def step(model, batch):
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def data(sizes=(4, 4, 2)):
    return [{"w": torch.zeros(3), "x": torch.randn(n, 4), "y": torch.zeros(n, 1)} for n in sizes]


def test_guess_is_warned_of_once_a_stage(make_trainer, make_spec):
    batches = [{"w": one["w"], "x": one["x"], "goal": one["y"]} for one in data()]
    step = lambda model, batch: nn.functional.mse_loss(model(batch["x"]), batch["goal"])  # noqa: E731
    spec = make_spec(training_step=step, validation_step=step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_trainer(max_epochs=3).fit(spec, batches, batches)
    texts = [str(one.message) for one in caught]
    assert [text.split(" batch ")[0] for text in texts] == [
        f"the number of samples in a {name}" for name in ("train", "val")
    ]
    assert "using 4" in texts[0]
    assert "dict of 3 {'w': Tensor (3,) float32, 'x': Tensor (4, 4) float32" in texts[0]
    assert "TrainSpec(batch_size=)" in texts[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counting = make_spec(training_step=step, validation_step=step, batch_size=lambda batch: len(batch["x"]))
        make_trainer().fit(counting, batches, batches)
        make_trainer().predict(make_spec(predict_step=lambda model, batch: model(batch["x"])), batches)


@pytest.mark.parametrize(
    ("returned", "shown"),
    [(2.0, "float 2.0"), (-1, "int -1"), (True, "bool True"), ("4", "str '4'"), (None, "NoneType None")],
)
def test_count_that_is_none_is_refused(make_trainer, make_spec, make_batches, returned, shown):
    for call in ("fit", "validate"):
        with pytest.raises(SpecError, match=rf"it returned {shown} for tuple of 2"):
            getattr(make_trainer(), call)(make_spec(batch_size=lambda batch: returned), make_batches())


@pytest.mark.parametrize("given", [np.int64(3), torch.tensor(3), 3])
def test_count_may_be_any_whole_number(make_trainer, make_spec, make_batches, given):
    metrics = make_trainer().validate(make_spec(batch_size=lambda batch: given), make_batches(last=2))
    batches = make_batches(last=2)
    spec = make_spec()
    with torch.no_grad():
        losses = [spec.loss(spec.model(x), y).item() for x, y in batches]
    assert metrics["val/loss"] == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_spec_with_a_count_can_be_copied(make_spec):
    assert copy.copy(dataclasses.replace(make_spec(), batch_size=4)).batch_size == 4
