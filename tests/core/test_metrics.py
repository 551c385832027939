"""The weighted mean, and metrics of every kind behind one protocol."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassRecall

from unitrain import Event, SpecError, metric
from unitrain.loop.meter import StageMeter
from unitrain.metrics.metric import Mean, full_name, stage_metric

CPU = torch.device("cpu")


def same_bits(one, other):
    return torch.equal(torch.tensor(one, dtype=torch.float64), torch.tensor(float(other), dtype=torch.float64))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_mean_equals_torchmetrics_bit_for_bit(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = Mean(), MeanMetric()
    for _ in range(50):
        value = (torch.randn((), generator=generator) * 10).to(dtype)
        weight = int(torch.randint(1, 129, (), generator=generator))
        ours.add(value, weight)
        theirs.update(value, weight)
    assert same_bits(ours.compute(), theirs.compute())


def test_mean_weighs_an_uneven_last_batch_by_its_size():
    mean = Mean()
    for value, weight in ((1.0, 32), (1.0, 32), (4.0, 8)):
        mean.add(value, weight)
    assert mean.compute() == pytest.approx((64 + 32) / 72)


def test_mean_of_nothing_is_none_also_after_a_reset():
    mean = Mean()
    assert mean.compute() is None
    mean.add(2.0, 1)
    mean.reset()
    assert mean.compute() is None


def test_mean_keeps_no_graph_and_does_not_change_its_values():
    mean, value = Mean(), torch.ones((), requires_grad=True)
    mean.add(value, 3)
    mean.add(value, 3)
    assert (mean.compute(), value.item(), mean.state_dict()["total"].requires_grad) == (1.0, 1.0, False)


@pytest.mark.parametrize("exponents", [(-45, -37), (-3, 3), (-20, 20), (30, 38), (-45, 38)])
def test_mean_in_the_hosts_memory_rounds_as_torch_does(exponents):
    """Denormals, overflow and cancellation included: a double that is rounded once is what float32 gives."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        ours, total = Mean(), None
        for _ in range(10):
            low, high = exponents
            power = torch.rand((), generator=generator, dtype=torch.float64) * (high - low) + low
            value = (torch.randn((), generator=generator).double() * 10**power).float()
            weight = int(torch.randint(1, 4097, (), generator=generator))
            ours.add(value, weight)
            total = value * weight if total is None else total + value * weight
        kept = ours.state_dict()["total"]
        assert torch.equal(kept.view(torch.int32), total.view(torch.int32)) or (kept.isnan() and total.isnan())


def test_mean_goes_on_with_what_a_checkpoint_holds():
    values = torch.randn(20, generator=torch.Generator().manual_seed(0))
    whole, first, second = Mean(), Mean(), Mean()
    for index, value in enumerate(values):
        whole.add(value, 7)
        (first if index < 9 else second).add(value, 7)
        if index == 8:
            second.load_state_dict(first.state_dict())
    assert whole.compute() == second.compute()


def test_loss_of_an_epoch_is_weighted_by_batch_size(make_trainer, make_spec, make_batches):
    batches, expected = make_batches(3, size=8, last=3), MeanMetric()
    spec = make_spec()
    for inputs, target in batches:
        expected.update(spec.loss(spec.model(inputs), target).detach(), len(inputs))
    found = make_trainer().validate(spec, batches)["val/loss"]
    assert same_bits(found, expected.compute())
    assert found != pytest.approx(sum(spec.loss(spec.model(x), y).item() for x, y in batches) / 3)


def mae(output, target):
    return (output - target).abs().mean()


@pytest.mark.parametrize(
    "given",
    [MeanAbsoluteError(), "mae", metric("mae"), mae, nn.L1Loss()],
    ids=["torchmetrics", "name", "metric()", "function", "module"],
)
def test_metric_of_any_kind_measures_the_mean_over_samples(make_trainer, make_spec, make_batches, given):
    spec, batches = make_spec(metrics={"mae": given}), make_batches(3, last=3)
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    expected = float(mae(spec.model(inputs), targets).detach())
    assert make_trainer().validate(spec, batches)["val/mae"] == pytest.approx(expected, rel=1e-6)


class _IgniteShaped:
    """What Ignite's engine would call of a metric; its module says that it is Ignite's."""

    def __init__(self):
        self.seen = []

    def reset(self):
        self.seen = []

    def attach(self, engine, name):
        engine.add_event_handler(SimpleNamespace(name="EPOCH_STARTED"), lambda engine: self.reset())
        engine.add_event_handler(SimpleNamespace(name="ITERATION_COMPLETED"), self.iteration_completed)
        engine.add_event_handler(SimpleNamespace(name="EPOCH_COMPLETED"), self.compute, name)

    def iteration_completed(self, engine):
        output, target = engine.state.output
        self.seen.append(float((output - target).abs().sum()) / len(target))

    def compute(self):
        return sum(self.seen) / len(self.seen)


_IgniteShaped.__module__ = "ignite.metrics.own"


def test_metric_of_ignites_shape_is_called_as_its_engine_would():
    given = _IgniteShaped()
    meter = StageMeter("val", {"mae": given})
    meter.reset(CPU)
    meter.add_output(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]), 2)
    meter.add_output(torch.tensor([[4.0]]), torch.tensor([[1.0]]), 1)
    assert meter.compute() == {"val/mae": pytest.approx((1.5 + 3.0) / 2)}
    assert given.seen == []  # the meter works on a copy


def test_metrics_of_two_stages_do_not_share_state(make_trainer, make_spec, make_batches):
    given = MeanSquaredError()
    result = make_trainer(max_epochs=1).fit(make_spec(metrics={"mse": given}), make_batches(3), make_batches(2))
    assert result.metrics["train/mse"] != result.metrics["val/mse"]
    assert given.update_count == 0


def test_metrics_start_anew_each_epoch(make_trainer, make_spec, make_batches):
    spec = make_spec(metrics={"n": lambda output, target: float(len(target))})
    history = make_trainer(max_epochs=3).fit(spec, make_batches(2, size=4)).history
    assert [row["train/n"] for row in history] == [4.0, 4.0, 4.0]


def test_vector_becomes_numbered_scalars():
    meter = StageMeter("val", {"recall": MulticlassRecall(3, average=None)})
    meter.reset(CPU)
    meter.add_output(torch.eye(3)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2]), 4)
    assert meter.compute() == {"val/recall_0": 1.0, "val/recall_1": 1.0, "val/recall_2": 0.5}


def test_mapping_becomes_named_scalars():
    meter = StageMeter("val", {"err": MetricCollection({"mse": MeanSquaredError(), "mae": MeanAbsoluteError()})})
    meter.reset(CPU)
    meter.add_output(torch.tensor([1.0, 3.0]), torch.zeros(2), 2)
    assert meter.compute() == {"val/err_mse": 5.0, "val/err_mae": 2.0}


def test_collection_is_a_mapping_of_metrics(make_trainer, make_spec, make_batches):
    metrics = MetricCollection({"mse": MeanSquaredError(), "mae": MeanAbsoluteError()})
    found = make_trainer().validate(make_spec(metrics=metrics), make_batches())
    assert set(found) == {"val/loss", "val/mse", "val/mae"}


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("accuracy", {"num_classes": 3}, "MulticlassAccuracy"),
        ("f1", {"num_labels": 3}, "MultilabelF1Score"),
        ("auroc", {}, "BinaryAUROC"),
        ("recall", {"task": "multiclass", "num_classes": 4}, "MulticlassRecall"),
        ("r2", {}, "R2Score"),
    ],
)
def test_metric_by_name_finds_its_task(name, options, shown):
    assert type(metric(name, **options)).__name__ == shown


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("acuracy", {}, "did you mean 'accuracy'"),
        ("nonsense", {}, "accepted are accuracy"),
        ("f1", {"num_classes": -1}, "could not be created"),
        ("f1", {"classes": 3}, "could not be created"),
        ("mse", {"task": "binary"}, "could not be created"),
    ],
)
def test_metric_by_name_refuses_what_it_does_not_know(name, options, says):
    with pytest.raises(SpecError, match=rf"{name}[\s\S]*{says}|{says}"):
        metric(name, **options)


@pytest.mark.parametrize(
    "given", [3, None, MeanSquaredError, [mae], object()], ids=["number", "none", "class", "list", "object"]
)
def test_metric_of_no_kind_is_refused(given):
    with pytest.raises(SpecError, match=r"the metric .m. must be[\s\S]*Hint:"):
        stage_metric("m", given)


def test_logged_name_of_a_metric_is_refused():
    meter = StageMeter("train", {"acc": mae})
    for name in ("acc", "loss"):
        with pytest.raises(SpecError, match=rf"train/{name}'[\s\S]*Hint:"):
            meter.log(name, 1.0, 1)


@pytest.mark.parametrize("name", ["train/acc", "train/loss"])
def test_logged_full_name_of_a_metric_is_refused(name):
    """``full_name`` leaves a name with a slash as it is, so it is the metric's own."""
    meter = StageMeter("train", {"acc": mae})
    meter.reset(CPU)
    with pytest.raises(SpecError, match=name):
        meter.log(name, 1.0, 1)


def test_values_of_two_metrics_with_one_name_are_refused():
    """The mapping's ``err_mse`` is the name of the other metric: one of them would be lost."""
    meter = StageMeter("val", {"err_mse": lambda *_: 7.0, "err": MetricCollection({"mse": MeanSquaredError()})})
    meter.reset(CPU)
    with pytest.raises(SpecError, match="err_mse"):  # noqa: PT012 - wherever it is noticed
        meter.add_output(torch.ones(2), torch.zeros(2), 2)
        meter.compute()


@pytest.mark.parametrize(
    "value",
    ["1", None, [1.0], torch.ones(2), torch.ones(0), 1j],
    ids=["text", "none", "list", "vector", "empty", "complex"],
)
def test_logged_value_that_is_not_one_number_is_refused(value):
    meter = StageMeter("train", {})
    with pytest.raises(SpecError, match=r"'x' must be a single number[\s\S]*Hint:"):
        meter.log("x", value, 1)


@pytest.mark.parametrize(
    "value",
    [2, 2.0, True, np.float32(2), np.int64(2), torch.tensor(2.0), torch.full((1, 1), 2.0), torch.tensor(2)],
    ids=["int", "float", "bool", "float32", "int64", "tensor", "one element", "tensor of int"],
)
def test_logged_number_of_any_kind_is_taken(value):
    meter = StageMeter("train", {})
    meter.reset(CPU)
    meter.log("x", value, 1)
    meter.log("x", value, 3)
    assert meter.compute() == {"train/x": float(value)}


@pytest.mark.parametrize("value", [torch.ones(2), "text", None], ids=["vector", "text", "none"])
def test_function_that_does_not_return_one_number_is_refused(value):
    meter = StageMeter("train", {"m": lambda *_: value})
    meter.reset(CPU)
    with pytest.raises(SpecError, match="'m'"):  # noqa: PT012 - at the latest when it is read
        meter.add_output(torch.ones(2), torch.zeros(2), 2)
        meter.compute()


def test_matrix_stays_a_tensor():
    meter = StageMeter("val", {"confusion": MulticlassConfusionMatrix(2)})
    meter.reset(CPU)
    meter.add_output(torch.eye(2), torch.tensor([0, 1]), 2)
    assert meter.compute() == {}
    assert torch.equal(meter.tables["val/confusion"].tensors[""], torch.eye(2, dtype=torch.int64))


def test_what_was_never_fed_is_left_out(make_trainer, make_spec, make_batches):
    step = lambda model, batch: model(batch[0]).mean()  # noqa: E731 - returns no output, so feeds no metric
    result = make_trainer(max_epochs=1).fit(make_spec(metrics={"mae": mae}, training_step=step), make_batches())
    assert set(result.metrics) == {"train/loss"}


def test_names_with_a_slash_stay_as_they_are():
    assert (full_name("val", "acc"), full_name("val", "lr/head")) == ("val/acc", "lr/head")


def test_value_logged_in_a_batch_is_a_mean_and_elsewhere_the_value(make_trainer, make_spec, make_batches):
    trainer = make_trainer(max_epochs=1)
    trainer.on(Event.BATCH_END, lambda run: run.log("seen", run.state.batch))
    trainer.on(Event.EPOCH_END, lambda run: run.log("end", 7))
    found = trainer.fit(make_spec(), make_batches(3, size=8, last=4)).metrics
    assert found["train/seen"] == pytest.approx((1 * 8 + 2 * 8 + 3 * 4) / 20)
    assert found["train/end"] == 7.0
