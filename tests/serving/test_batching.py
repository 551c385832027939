"""Requests of one turn are one run; each gets its own rows, whole, from one model."""

import asyncio
import threading
import time
from types import MappingProxyType

import numpy as np
import pytest

from unitrain.serving.arrays import RowReader
from unitrain.serving.batching import Answer, Batcher, Share
from unitrain.serving.metrics import Layout, Numbers
from unitrain.serving.models.loaded import LONG, Loaded, load
from unitrain.serving.refusals import Refusal

SIZES = (1, 3, 2, 1, 4)


class Counting:
    """A model that notes the rows of each run, and fails if a number is 13."""

    format = "test"
    metadata = MappingProxyType({})

    def __init__(self, model):
        self.signature, self._model, self.runs = model.signature, model, []

    def run(self, inputs):
        self.runs.append(len(inputs[0]))
        if (inputs[0] == 13).any():
            raise RuntimeError("unlucky")
        return self._model.run(inputs)


@pytest.fixture
def loaded(onnx):
    found = load("small", onnx, threads=1, max_batch=64)
    return Loaded("small", onnx, found.stamp, found.sha256, Counting(found.model), joins=True, is_slow=False)


def parts():
    numbers = np.random.default_rng(0)
    return [numbers.standard_normal((one, 4)).astype(np.float32) for one in SIZES]


def asked(loaded, arrays, **options):
    """Submit all in one turn, and return the answers or refusals."""
    layout = Layout(["small"], ["/predict"])
    numbers = Numbers(layout, bytearray(layout.bytes(1)))
    given = {"max_batch": 64, "max_wait": 0.0, "queue": 100, "timeout": 5.0, **options}
    reader = RowReader(loaded.signature, None)

    async def work():
        batcher = Batcher(lambda: loaded, numbers=numbers.of_model("small"), **given)
        futures = [batcher.submit(reader.rows([one])) for one in arrays]
        return await asyncio.gather(*futures, return_exceptions=True)

    return asyncio.run(work())


def correct(loaded, arrays, shares):
    return all(
        np.allclose(share.outputs[0], loaded.model._model.run([one])[0], atol=1e-6)  # another batch: other last bits
        and len(share.outputs[0]) == len(one)
        for one, share in zip(arrays, shares, strict=True)
    )


@pytest.mark.parametrize("is_slow", [False, True])
def test_one_turn_is_one_run(loaded, is_slow):
    slow = Loaded("small", loaded.path, loaded.stamp, "", loaded.model, joins=True, is_slow=is_slow)
    assert correct(slow, parts(), asked(slow, parts()))
    assert loaded.model.runs == [sum(SIZES)]


def test_max_batch_is_kept(loaded):
    assert correct(loaded, parts(), asked(loaded, parts(), max_batch=4))
    assert max(loaded.model.runs) <= 4
    assert sum(loaded.model.runs) == sum(SIZES)


def test_a_model_that_keeps_no_rows_is_run_alone(loaded):
    alone = Loaded("small", loaded.path, loaded.stamp, "", loaded.model, joins=False, is_slow=False)
    asked(alone, parts())
    assert loaded.model.runs == list(SIZES)


def test_one_bad_request_fails_alone(loaded):
    arrays = [np.ones((1, 4), np.float32), np.full((1, 4), 13, np.float32), np.zeros((2, 4), np.float32)]
    first, second, third = asked(loaded, arrays)
    assert (second.status, "log" in second.message) == (500, True)
    assert correct(loaded, [arrays[0], arrays[2]], [first, third])


def test_a_full_queue_refuses(loaded):
    with pytest.raises(Refusal, match="2 requests are waiting"):
        asked(loaded, parts(), queue=2)


def test_rows_that_are_cut_wrong_are_noticed(loaded, monkeypatch):
    def off_by_one(self):
        return [one[self.start + 1 : self.start + 1 + self.rows.count] for one in self.answer.outputs]

    monkeypatch.setattr(Share, "outputs", property(off_by_one))
    assert not correct(loaded, parts(), asked(loaded, parts()))


def test_sums_of_workers_add_up_and_survive_a_worker():
    layout = Layout(["small"], ["/predict"])
    block = bytearray(layout.bytes(2))
    first, second = Numbers(layout, block, 0), Numbers(layout, block, 1)
    for one, count in ((first, 3), (second, 4)):
        for _ in range(count):
            one.began()
            one.ended("/predict", "small", 200)
    second.began()
    assert {key[1]: value[0] for *key, value in first.values() if value[0]} == {
        ("/predict", "small", "200"): 7.0,
        (): 1.0,
    }
    replaced = Numbers(layout, block, 1)  # the worker was killed within a request
    assert {key[1]: value[0] for *key, value in replaced.values() if value[0]} == {("/predict", "small", "200"): 7.0}


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.0, 0.0], [0.0, np.log(3)]], [0.5, 0.75]),
        ([[0.25, 0.75], [0.9, 0.1]], [0.75, 0.9]),
        ([[[0.0, 0.0], [0.0, np.log(3)]]], [0.625]),
        ([[1.0], [2.0]], None),
        ([1.0, 2.0], None),
    ],
    ids=["logits", "probabilities", "two-places", "one-class", "no-choice"],
)
def test_confidence_as_computed_by_hand(scores, expected):
    found = Answer([np.float32(scores)], None).confidence
    assert found == (None if expected is None else pytest.approx(expected))


def test_few_and_many_numbers_have_the_same_confidence():
    logits = np.random.default_rng(0).standard_normal((200, 10)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for scores in (logits, softmax):
        many = Answer([scores], None).confidence
        few = [Answer([scores[index : index + 1]], None).confidence[0] for index in range(200)]
        assert few == pytest.approx(many, rel=1e-12)


def test_a_row_that_is_not_finite_changes_no_other():
    scores = np.float32([[0, np.log(3)], [np.nan, 1], [np.inf, 1], [-np.inf, -np.inf]])
    answer = Answer([scores], None)
    assert not answer.finite
    assert answer.confidence[0] == pytest.approx(0.75)
    assert Answer([np.repeat(scores, 300, axis=0)], None).confidence[0] == pytest.approx(0.75)


def test_a_model_that_was_slow_once_leaves_the_event_loop(loaded):
    threads = []

    class Slow(Counting):
        def run(self, inputs):
            threads.append(threading.current_thread() is threading.main_thread())
            time.sleep(2 * LONG)
            return super().run(inputs)

    slow = Loaded("small", loaded.path, loaded.stamp, "", Slow(loaded.model._model), joins=True, is_slow=False)
    asked(slow, parts(), max_batch=4)
    assert threads == [True, *[False] * (len(threads) - 1)]
    assert len(threads) > 1
