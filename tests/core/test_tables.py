"""Metrics whose value is a vector, a matrix or curves: by class, as tensors and as figures, alike on every backend."""

from __future__ import annotations

import pytest
import torch
from ignite.metrics import ConfusionMatrix, Recall
from matplotlib.figure import Figure
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryROC,
    MulticlassConfusionMatrix,
    MulticlassPrecisionRecallCurve,
    MulticlassRecall,
    MultilabelConfusionMatrix,
)

from unitrain import (
    ConfigError,
    CSVLogger,
    EarlyStopping,
    Event,
    SpecError,
    TrainSpec,
    UnifiedTrainer,
    metric,
    per_class,
)
from unitrain.checkpoint import io
from unitrain.loggers import drawing
from unitrain.loggers.drawing import drawn
from unitrain.loop.meter import StageMeter
from unitrain.metrics.class_names import Shape
from unitrain.metrics.tables import Table, pieces
from unitrain.testing import cases_views
from unitrain.testing.trace import Case, Tape, differences, record

FRAMEWORKS = ("reference", "lightning", "ignite")
NAMES = ("cat", "dog", "owl")
OUTPUT = torch.eye(3)[[0, 0, 1, 2, 2, 2]]
TARGET = torch.tensor([0, 1, 1, 2, 2, 0])
CONFUSION = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 2]])
"""Of three samples of class 0 and 1 one is wrong each: recalls of 1/2, 1/2 and 1."""


class Fixed(torch.nn.Module):
    """Gives the output above, whatever it trains."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, index):
        return OUTPUT[index] * self.scale


def fixed(**metrics):
    loss = lambda output, target: output.mean()  # noqa: E731 - any
    return TrainSpec(model=Fixed(), loss=loss, optimizer=lambda given: torch.optim.SGD(given, lr=0.0), metrics=metrics)


DATA = [(torch.arange(0, 4), TARGET[:4]), (torch.arange(4, 6), TARGET[4:])]


def fitted(framework, spec, **options):
    trainer = UnifiedTrainer(framework, **{"max_epochs": 1, "enable_progress_bar": False, **options})
    return trainer, trainer.fit(spec, DATA, DATA)


# --- values by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_vector_has_a_value_by_class(framework):
    made = {
        "recall": metric("recall", class_names=NAMES),
        "own": per_class(MulticlassRecall(3, average="none"), NAMES),
        "ignites": per_class(Recall(average=False), NAMES),
        "plain": MulticlassRecall(3, average=None),
    }
    _, result = fitted(framework, fixed(**made))
    for stage in ("train", "val"):
        for name in ("recall", "own", "ignites"):
            assert [result.metrics[f"{stage}/{name}_{one}"] for one in NAMES] == [0.5, 0.5, 1.0]
            assert result.history[0][f"{stage}/{name}_owl"] == 1.0
        assert [result.metrics[f"{stage}/plain_{index}"] for index in range(3)] == [0.5, 0.5, 1.0]
    assert not result.tensors


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_matrix_is_a_tensor_and_no_scalars(framework):
    made = {
        "confusion": metric("confusion_matrix", class_names=NAMES),
        "plain": MulticlassConfusionMatrix(3),
        "ignites": ConfusionMatrix(3),
    }
    trainer, result = fitted(framework, fixed(**made))
    assert result.metrics.keys() == {"train/loss", "val/loss"}
    assert list(result.tensors) == [f"{stage}/{name}" for stage in ("val", "train") for name in made]
    assert all(torch.equal(one, CONFUSION) for one in result.tensors.values())
    assert trainer.test(dataloaders=DATA).keys() == {"test/loss"}
    assert torch.equal(trainer.state.tensors["test/confusion"], CONFUSION)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_curves_are_tensors_by_part_and_class(framework):
    made = {
        "roc": metric("roc", num_classes=3, thresholds=2),
        "pr": metric("precision_recall_curve", class_names=NAMES),
    }
    _, result = fitted(framework, fixed(**made))
    # with the thresholds 1 and 0: who is above, and all
    assert torch.equal(result.tensors["val/roc_tpr"], torch.tensor([[0.5, 1.0], [0.5, 1.0], [1.0, 1.0]]))
    assert torch.equal(result.tensors["val/roc_fpr"], torch.tensor([[0.25, 1.0], [0.0, 1.0], [0.25, 1.0]]))
    assert torch.equal(result.tensors["val/roc_thresholds"], torch.tensor([1.0, 0.0]))
    assert torch.equal(result.tensors["val/pr_recall_cat"], torch.tensor([1.0, 0.5, 0.0]))
    assert {"val/pr_precision_owl", "val/pr_thresholds_dog"} <= result.tensors.keys()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_handlers_see_the_tensors_of_the_stage(framework):
    seen = []
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.on(Event.VAL_END, lambda run: seen.append(run.state.tensors["val/confusion"]))
    trainer.fit(fixed(confusion=metric("confusion_matrix", num_classes=3)), DATA, DATA)
    assert torch.equal(seen[0], CONFUSION)


def test_collection_is_named_by_its_keys():
    meter = StageMeter(
        "val", {"both": MetricCollection({"cm": MulticlassConfusionMatrix(3), "r": MulticlassRecall(3)})}
    )
    meter.reset(torch.device("cpu"))
    meter.add_output(OUTPUT, TARGET, 6)
    assert meter.compute() == {"val/both_r": pytest.approx(2 / 3)}
    assert torch.equal(meter.tables["val/both_cm"].tensors[""], CONFUSION)


def test_pairs_of_numbers_are_numbers():
    found = dict(pieces("at", (torch.tensor(0.5), torch.tensor(2.0)), Shape()))
    assert found == {"at_0": torch.tensor(0.5), "at_1": torch.tensor(2.0)}


# --- every backend, and resuming ------------------------------------------------------------------------------------


def case():
    return next(one for one in cases_views.view_cases() if one.name == "vector-metrics")


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("writer", FRAMEWORKS)
def test_resumed_in_mid_epoch(framework, writer, tmp_path):
    whole = case()
    act = lambda trainer: trainer.on(Event.BATCH_END(once=8), lambda run: run.save_checkpoint(tmp_path / "a.ckpt"))  # noqa: E731
    record(writer, Case(name="saving", spec=whole.spec, train=whole.train, val=whole.val, act=act))
    kept = io.read(tmp_path / "a.ckpt")["unitrain"]["hub"]["tensors"]
    assert kept["val/confusion"].sum() == 10
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=1234, enable_progress_bar=False)
    tape = Tape(trainer)
    found = tape.trace(trainer, trainer.fit(whole.spec(), whole.train(), whole.val(), ckpt_path=tmp_path / "a.ckpt"))
    expected = record("reference", whole)
    for part in ("tensors", "history", "weights"):
        assert not differences(getattr(expected, part), getattr(found, part), part)


def test_a_metric_that_keeps_counting_does_not_change_the_result(monkeypatch):
    meter = StageMeter("val", {"confusion": MulticlassConfusionMatrix(3)})
    meter.reset(torch.device("cpu"))
    meter.add_output(OUTPUT, TARGET, 6)
    meter.compute()
    meter.add_output(OUTPUT, TARGET, 6)
    found = meter.tables["val/confusion"].tensors[""]
    meter.compute()
    assert torch.equal(found, CONFUSION)


# --- figures --------------------------------------------------------------------------------------------------------


class Taking:
    """A tracker that notes what it gets."""

    def __init__(self):
        self.figures, self.rows = [], []

    def log_metrics(self, metrics, step):
        self.rows.append(metrics)

    def log_figure(self, name, figure, step):
        axes = figure.axes[0]
        self.figures.append((name, step, [text.get_text() for text in axes.texts], len(axes.lines)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_trackers_get_rows_and_figures(framework):
    tracker = Taking()
    made = {"recall": metric("recall", class_names=NAMES), "confusion": metric("confusion_matrix", class_names=NAMES)}
    trainer, _ = fitted(framework, fixed(**made, roc=metric("roc", num_classes=3, thresholds=2)), loggers=[tracker])
    cells = ["1", "0", "1", "1", "1", "0", "0", "0", "2"]
    assert tracker.figures == [
        ("val/confusion", 2, cells, 0),
        ("val/roc", 2, [], 3),
        ("train/confusion", 2, cells, 0),
        ("train/roc", 2, [], 3),
    ]
    assert [row["val/recall_cat"] for row in tracker.rows] == [0.5]
    assert not any("confusion" in name for row in tracker.rows for name in row)
    trainer.test(dataloaders=DATA)
    assert tracker.figures[-2:] == [("test/confusion", 2, cells, 0), ("test/roc", 2, [], 3)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_drawing_leaves_the_random_numbers_alone(framework, tmp_path):
    whole = case()
    tracked = Case(
        name="tracked",
        spec=whole.spec,
        train=whole.train,
        val=whole.val,
        options={"loggers": [CSVLogger(tmp_path)]},
    )
    assert not differences(record("reference", whole), record(framework, tracked))
    assert len(list(tmp_path.rglob("confusion-*.png"))) == 2 * 3


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_matplotlib_it_is_said_once(framework, monkeypatch):
    monkeypatch.setattr("unitrain.loggers.drawing.can_draw", lambda: False)
    tracker = Taking()
    with pytest.warns(
        UserWarning,
        match=r"no figure of the metric 'confusion' is sent to trackers: matplotlib is not installed[\s\S]*\[plot\]",
    ) as said:
        _, result = fitted(framework, fixed(confusion=MulticlassConfusionMatrix(3)), loggers=[tracker], max_epochs=2)
    assert len([one for one in said if "no figure" in str(one.message)]) == 1
    assert not tracker.figures
    assert torch.equal(result.tensors["val/confusion"], CONFUSION)


def test_matplotlib_is_found(monkeypatch):
    assert drawing.can_draw()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert not drawing.can_draw()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_trackers_nothing_is_drawn(framework, monkeypatch):
    monkeypatch.setattr("unitrain.loggers.drawing.drawn", lambda name, table: 1 / 0)
    fitted(framework, fixed(confusion=MulticlassConfusionMatrix(3)))


@pytest.mark.parametrize(
    ("table", "panels"),
    [
        (Table({"": torch.rand(30, 30)}, Shape()), 1),
        (Table({"": torch.ones(3, 2, 2)}, Shape(NAMES)), 3),
        (Table({"": torch.ones(40, 2, 2)}, Shape()), None),
        (Table({"_0": torch.ones(4), "_1": torch.ones(4)}, Shape()), None),
        (Table({"_fpr": torch.ones(4), "_tpr": torch.ones(4), "_thresholds": torch.ones(4)}, Shape(None, ("fpr",))), 1),
    ],
)
def test_what_can_be_drawn(table, panels):
    figure = drawn("val/x", table)
    assert (figure is None) == (panels is None)
    if figure is not None:
        assert isinstance(figure, Figure)
        assert len(figure.axes) == panels


def test_what_cannot_be_drawn_is_said():
    tracker = Taking()
    own = lambda: type("Odd", (MulticlassRecall,), {"compute": lambda self: torch.ones(2, 3, 4, 5)})(3)  # noqa: E731
    with pytest.warns(UserWarning, match=r"its shape cannot be drawn \(odd: \(2, 3, 4, 5\)\)"):
        fitted("reference", fixed(odd=own()), loggers=[tracker])


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: metric("f1", class_names=["a"]), "at least two different strings without a slash"),
        (lambda: metric("f1", class_names=["a", "a"]), r"different strings without a slash; got \['a', 'a'\]"),
        (lambda: metric("f1", class_names=["a", "b/c"]), "without a slash"),
        (lambda: metric("f1", class_names="ab"), "at least two different strings"),
        (lambda: metric("f1", class_names=["a", "b"], num_classes=3), "2 names, but MulticlassF1Score has 3 classes"),
        (lambda: metric("f1", class_names=["a", "b"], average="macro"), r"average='macro'\) returns a single number"),
        (lambda: metric("mse", class_names=["a", "b"]), r"metric\('mse', class_names=\) has no effect"),
        (lambda: metric("cohen_kappa", class_names=["a", "b"]), "the metric is a single number"),
        (lambda: per_class(MulticlassRecall(3), ["a", "b", "c"]), "MulticlassRecall\\(average='macro'"),
    ],
)
def test_names_that_cannot_act_are_refused(make, says):
    with pytest.raises(SpecError, match=says) as caught:
        make()
    assert "\nHint: " in str(caught.value)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    "given", [per_class(Recall(average=False), ["a", "b"]), per_class(Recall(average=True), ["a", "b"])]
)
def test_names_that_only_a_value_contradicts_are_refused_by_it(framework, given):
    if framework != "reference":
        with pytest.raises(SpecError, match="class_names= of the metric 'recall'"):
            fitted(framework, fixed(recall=given))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("made", "monitor"),
    [(metric("confusion_matrix", num_classes=3), "val/m"), (metric("recall", class_names=NAMES), "val/m")],
)
def test_monitor_of_what_is_no_number_is_refused_before_training(framework, made, monitor):
    with pytest.raises(ConfigError, match=monitor):
        fitted(framework, fixed(m=made), callbacks=[EarlyStopping(monitor)])
    if "names" in repr(made):
        fitted(framework, fixed(m=made), callbacks=[EarlyStopping("val/m_cat", mode="max")])


@pytest.mark.parametrize("value", [[], ["text"], ({},), (torch.ones(2), "x")])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(SpecError, match="'odd'"):
        list(pieces("odd", value, Shape()))


def test_shapes_of_torchmetrics_are_known():
    from unitrain.metrics.class_names import shape_of

    assert shape_of(BinaryROC()).parts == ("fpr", "tpr", "thresholds")
    assert shape_of(MulticlassPrecisionRecallCurve(3)).parts == ("precision", "recall", "thresholds")
    assert shape_of(MultilabelConfusionMatrix(3)) == shape_of("accuracy") == Shape()


def test_case_of_the_suite_holds_all_kinds():
    tensors = record("reference", case()).tensors
    assert tensors["val/confusion"].shape == (5, 5)
    assert {"val/roc_fpr", "val/pr_recall_4"} <= tensors.keys()
