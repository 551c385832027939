"""Metrics that count classes are fed many batches at once: to the same state as batch by batch, at every moment."""

from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torchmetrics.classification as tm

from unitrain import metric
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.metrics.class_counts import ClassCounts, counts_classes
from unitrain.metrics.metric import stage_metric

CLASSES = 5
COUNTING = {
    **{
        f"accuracy {average}": tm.MulticlassAccuracy(CLASSES, average=average) for average in ("micro", "macro", "none")
    },
    "f1": metric("f1", num_classes=CLASSES),
    "precision, a class ignored": tm.MulticlassPrecision(CLASSES, ignore_index=2),
    "recall, labels ignored": tm.MulticlassRecall(CLASSES, ignore_index=-100),
    "jaccard": metric("jaccard", num_classes=CLASSES),
    "cohen_kappa": metric("cohen_kappa", num_classes=CLASSES),
    "confusion": tm.MulticlassConfusionMatrix(CLASSES),
}
NOT_COUNTING = {
    "binary": metric("accuracy"),
    "multilabel": metric("f1", num_labels=3),
    "top 2": tm.MulticlassAccuracy(CLASSES, top_k=2),
    "samplewise": tm.MulticlassAccuracy(CLASSES, multidim_average="samplewise"),
    "auroc": metric("auroc", num_classes=CLASSES),
    "mse": metric("mse"),
    "own": type("Own", (tm.MulticlassAccuracy,), {"update": lambda self, preds, target: None})(CLASSES),
}


class Subclass(torch.Tensor):
    """Scores of a class of the user's."""

    def __new__(cls, scores):
        return scores.as_subclass(cls)


def batches(count=20, *, ignored=False, shape=()):
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        size = 3 if index == count - 1 else 8
        scores = torch.randn(size, CLASSES, *shape, generator=generator)
        labels = torch.randint(0, CLASSES, (size, *shape), generator=generator)
        if ignored:
            labels[0] = -100
        yield scores, labels


@pytest.mark.parametrize("name", COUNTING)
@pytest.mark.parametrize("shape", [(), (7,)])
def test_the_value_and_the_state_are_those_of_batch_by_batch(name, shape):
    given = COUNTING[name]
    own, stock = stage_metric("m", given), given.clone()
    stock.persistent(mode=True)
    for checkpoint in (7, None, None, 7):  # the first epoch looks at its first batch; a checkpoint may be in mid-epoch
        own.reset(torch.device("cpu"))
        stock.reset()
        for index, (scores, labels) in enumerate(batches(ignored="labels ignored" in name, shape=shape)):
            own.update(scores, labels, len(labels))
            stock.update(scores, labels)
            labels.fill_(0)  # a loader may fill the same memory again
            scores.zero_()
            if index == checkpoint:
                assert all(torch.equal(value, stock.state_dict()[key]) for key, value in own.state_dict().items())
        assert torch.equal(torch.as_tensor(own.compute(SINGLE_PROCESS)), stock.compute())
        assert torch.equal(torch.as_tensor(own.compute(SINGLE_PROCESS)), stock.compute())  # and again
        assert all(torch.equal(value, stock.state_dict()[key]) for key, value in own.state_dict().items())


@pytest.mark.parametrize("name", COUNTING)
def test_an_epoch_goes_through_a_function_of_torchmetrics_alone_if_there_is_one(name, monkeypatch):
    own = stage_metric("m", COUNTING[name])
    for epoch in range(2):
        own.reset(torch.device("cpu"))
        for scores, labels in batches():
            own.update(scores, labels, len(labels))
        if epoch:
            monkeypatch.setattr(own._metric, "compute", lambda: pytest.fail("by the metric"))
        own.compute(SINGLE_PROCESS)


def test_what_has_no_function_goes_through_the_metric():
    own = stage_metric("m", type("Own", (tm.MulticlassAccuracy,), {"compute": lambda self: torch.tensor(7.0)})(CLASSES))
    for _ in range(2):
        own.reset(torch.device("cpu"))
        for scores, labels in batches():
            own.update(scores, labels, len(labels))
        assert own.compute(SINGLE_PROCESS) == 7


def test_another_precision_of_the_user_is_kept():
    given = tm.MulticlassAccuracy(CLASSES).set_dtype(torch.float64)
    own, stock = stage_metric("m", given), given.clone()
    for _ in range(2):
        own.reset(torch.device("cpu"))
        stock.reset()
        for scores, labels in batches():
            own.update(scores, labels, len(labels))
            stock.update(scores, labels)
        assert own.compute(SINGLE_PROCESS).dtype == torch.float64
        assert torch.equal(torch.as_tensor(own.compute(SINGLE_PROCESS)), stock.compute())


def test_torchs_group_is_asked_where_there_is_one(monkeypatch, tmp_path):
    """A user may have made one; torchmetrics gathers over it by itself, in each epoch."""
    own = stage_metric("m", tm.MulticlassAccuracy(CLASSES))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        computed = []
        monkeypatch.setattr(own._metric, "compute", lambda: computed.append(1))
        for _ in range(2):
            own.reset(torch.device("cpu"))
            for scores, labels in batches():
                own.update(scores, labels, len(labels))
            own.compute(SINGLE_PROCESS)
        assert len(computed) == 2
    finally:
        torch.distributed.destroy_process_group()


INTEGERS = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32]


@pytest.mark.parametrize(
    ("average", "dtype"),
    [("macro", torch.uint16), *((average, dtype) for average in ("macro", "micro") for dtype in INTEGERS)],
)
def test_labels_of_any_integer_are_taken(average, dtype):
    own, stock = (make(tm.MulticlassAccuracy(2, average=average)) for make in (partial(stage_metric, "m"), deepcopy))
    for _ in range(2):
        own.reset(torch.device("cpu"))
        stock.reset()
        for scores, labels in batches():
            own.update(scores[:, :2], (labels % 2).to(dtype), len(labels))
            stock.update(scores[:, :2], (labels % 2).to(dtype))
        assert torch.equal(torch.as_tensor(own.compute(SINGLE_PROCESS)), stock.compute())


def outcome(compute):
    try:
        return float(compute())
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("labels", [[-1] * 8, [CLASSES] * 8, [-1, 0, 1, 2, 3, 4, 5, 6]])
def test_labels_that_are_no_classes_are_left_to_torchmetrics(labels):
    own = stage_metric("m", tm.MulticlassAccuracy(CLASSES, average="micro"))
    scores, right = next(batches())
    for target in (right, torch.tensor(labels)):
        own.reset(torch.device("cpu"))
        for _ in range(2 if target is right else 1):
            own.update(scores, target, len(target))
    stock = tm.MulticlassAccuracy(CLASSES, average="micro")
    assert outcome(lambda: own.compute(SINGLE_PROCESS)) == outcome(lambda: stock(scores.argmax(1), target))


NAN, INF = float("nan"), float("inf")
ODD = {
    "ties": [[0.0, 1.0, 1.0, -1.0, 1.0], [0.0, -0.0, -1.0, -1.0, 0.0]],
    "not a number": [[0.0, NAN, 5.0, NAN, INF], [NAN, 9.0, 9.0, 9.0, 9.0]],
    "without end": [[INF, 0.0, INF, -INF, 0.0], [-INF, -INF, -INF, -INF, -INF]],
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("seen_as", [torch.Tensor.contiguous, lambda scores: scores.T.contiguous().T, Subclass])
def test_the_class_of_odd_scores_is_torchs(name, dtype, seen_as):
    own, stock = (stage_metric("m", tm.MulticlassConfusionMatrix(CLASSES)), tm.MulticlassConfusionMatrix(CLASSES))
    own.reset(torch.device("cpu"))
    scores, labels = torch.tensor(ODD[name], dtype=dtype), torch.tensor([3, 4])
    for _ in range(3):  # the first by itself
        own.update(seen_as(scores), labels, 2)
        stock.update(scores, labels)
    assert torch.equal(own.compute(SINGLE_PROCESS), stock.compute())


def test_a_checkpoint_of_mid_epoch_is_gone_on_with():
    first, second, stock = (stage_metric("m", tm.MulticlassAccuracy(CLASSES)) for _ in range(3))
    for one in (first, second, stock):
        one.reset(torch.device("cpu"))
    for index, (scores, labels) in enumerate(batches()):
        stock.update(scores, labels, 8)
        if index == 9:
            second.load_state_dict(first.state_dict())
        (first if index < 9 else second).update(scores, labels, 8)
    assert torch.equal(second.compute(SINGLE_PROCESS), stock.compute(SINGLE_PROCESS))


@pytest.mark.parametrize("name", NOT_COUNTING)
def test_what_is_no_plain_count_is_fed_batch_by_batch(name):
    assert not counts_classes(NOT_COUNTING[name])


@pytest.mark.parametrize("name", COUNTING)
def test_what_is_a_plain_count_is_known_as_one(name):
    assert counts_classes(COUNTING[name])


def noted():
    """Return counts that go to no metric, and the list that gets their sizes."""
    sizes = []
    stand_in = SimpleNamespace(update=lambda classes, labels: sizes.append(len(labels)))
    stand_in.validate_args, stand_in.num_classes = True, CLASSES
    return ClassCounts(stand_in), sizes


def test_batches_are_counted_together():
    counts, sizes = noted()
    for scores, labels in batches():
        counts.add(scores, labels)
    counts.count()
    counts.count()
    assert sizes == [8, 18 * 8 + 3]  # the first by itself, whose shapes are checked


def test_no_more_than_a_limit_is_kept(monkeypatch):
    monkeypatch.setattr("unitrain.metrics.class_counts._LIMIT", 20)
    counts, sizes = noted()
    for scores, labels in batches(8):
        counts.add(scores, labels)
    assert sizes == [8, 24, 24]


def test_another_kind_of_batch_is_checked_at_once():
    own = stage_metric("m", metric("accuracy", num_classes=CLASSES))
    own.reset(torch.device("cpu"))
    own.update(torch.randn(4, CLASSES), torch.zeros(4, dtype=torch.long), 4)
    with pytest.raises(ValueError, match="equal to number of classes"):
        own.update(torch.randn(4, CLASSES + 1), torch.zeros(4, dtype=torch.long), 4)


def test_a_label_out_of_range_is_told():
    own = stage_metric("m", tm.MulticlassAccuracy(2, average="micro"))
    own.reset(torch.device("cpu"))
    for _ in range(2):
        own.update(torch.randn(4, 2), torch.tensor([0, 1, 0, 1]), 4)
    own.update(torch.randn(4, 2), torch.tensor([0, 1, 2, 3]), 4)
    with pytest.raises(RuntimeError, match="more unique values"):
        own.compute(SINGLE_PROCESS)


@pytest.mark.parametrize("labels", [[0, 1, 1, 5], [0, 1, 1, -1]])
def test_labels_that_torchmetrics_takes_out_of_range_are_its_own_to_judge(labels):
    """It refuses more values than classes, not each value; so what it makes of one must be what it makes by itself."""
    given, labels = tm.MulticlassAccuracy(3, average="micro"), torch.tensor(labels)
    own, stock = stage_metric("m", given), given.clone()
    own.reset(torch.device("cpu"))
    for _ in range(2):
        own.update(scores := torch.randn(4, 3), labels, 4)
        stock.update(scores, labels)
    assert torch.equal(own.compute(SINGLE_PROCESS), stock.compute())


def test_labels_in_range_are_not_sorted(monkeypatch):
    own = stage_metric("m", tm.MulticlassAccuracy(3))
    own.reset(torch.device("cpu"))
    own.update(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), 4)
    monkeypatch.setattr(torch, "unique", lambda *_, **__: pytest.fail("sorted"))
    own.update(torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), 4)
    own.compute(SINGLE_PROCESS)
    own.update(torch.randn(4, 3), torch.tensor([0, 1, 3, 0]), 4)
    with pytest.raises(pytest.fail.Exception, match="sorted"):  # the control: this one is
        own.compute(SINGLE_PROCESS)


def test_a_new_epoch_forgets_what_waits():
    own = stage_metric("m", tm.MulticlassAccuracy(2, average="micro"))
    own.reset(torch.device("cpu"))
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for _ in range(3):
        own.update(wrong, torch.tensor([0]), 1)
    own.reset(torch.device("cpu"))
    own.update(right, torch.tensor([0]), 1)
    assert own.compute(SINGLE_PROCESS) == 1
