"""Metrics of every kind have the same values on every backend, and those that can be had by hand."""

from __future__ import annotations

import warnings
from functools import partial

import ignite.metrics as im
import pytest
import torch
import torchmetrics as tm
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import wrappers
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from unitrain import ModelCheckpoint, SpecError, TrainSpec, UnifiedTrainer, UnitrainError, metric
from unitrain.loop.meter import StageMeter

BACKENDS = ("lightning", "ignite", "reference")
SIZE = 11
X = torch.randn(SIZE, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (SIZE,), generator=torch.Generator().manual_seed(1))


def model():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def run(backend, metrics, call="fit", target=Y, **options):
    spec = TrainSpec(model=model(), loss=cross_entropy, optimizer=partial(torch.optim.SGD, lr=0.5), metrics=metrics)
    trainer = UnifiedTrainer(backend, max_epochs=3, accelerator="cpu", seed=3, enable_progress_bar=False, **options)
    data = TensorDataset(X, target)
    if call == "validate":
        return trainer.validate(spec, DataLoader(data, batch_size=4))
    result = trainer.fit(spec, DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=4))
    return result.history


accuracy = partial(MulticlassAccuracy, 3, average="micro")
hot = lambda pair: (pair[0].softmax(1), one_hot(pair[1], 3).float())  # noqa: E731

KINDS = {
    "MinMax": lambda: wrappers.MinMaxMetric(accuracy()),
    "bootstrap": lambda: wrappers.BootStrapper(accuracy(), num_bootstraps=4, raw=True, quantile=0.5),
    "multinomial bootstrap": lambda: wrappers.BootStrapper(accuracy(), 3, sampling_strategy="multinomial"),
    "multioutput": lambda: wrappers.LambdaInputTransformer(
        wrappers.MultioutputWrapper(tm.MeanSquaredError(), 3),
        transform_target=lambda target: one_hot(target, 3).float(),
    ),
    "classwise": lambda: wrappers.ClasswiseWrapper(MulticlassAccuracy(3, average=None), labels=["a", "b", "c"]),
    "running": lambda: wrappers.Running(accuracy(), window=2),
    "transformed": lambda: wrappers.LambdaInputTransformer(accuracy(), lambda output: -output),
    "collection": lambda: tm.MetricCollection([MulticlassAccuracy(3, average=None), MulticlassF1Score(3)], prefix="x_"),
    "composition": lambda: accuracy() + MulticlassF1Score(3) * 2,
    "of all scores": lambda: MulticlassAUROC(3),
    "running average": lambda: im.RunningAverage(src=im.Accuracy()),
    "running average of outputs": lambda: im.RunningAverage(output_transform=lambda pair: pair[0].mean()),
    "sum of two": lambda: im.Precision(average=True) + im.Recall(average=True) * 2,
    "difference of transformed": lambda: im.MetricsLambda(
        lambda one, other: one - other, im.Accuracy(output_transform=lambda pair: (-pair[0], pair[1])), im.Accuracy()
    ),
    "Fbeta": lambda: im.Fbeta(1.0),
    "a class each": lambda: im.Precision(average=False),
    "group": lambda: im.MetricGroup({"acc": im.Accuracy(), "loss": im.Loss(cross_entropy)}),
    "average": lambda: im.Average(output_transform=lambda pair: pair[0].mean()),
    "geometric average": lambda: im.GeometricAverage(output_transform=lambda pair: pair[0].exp().mean()),
    "mean IoU": lambda: im.mIoU(im.ConfusionMatrix(3)),
    "keys": lambda: im.Accuracy(output_transform=lambda pair: {"y_pred": pair[0], "y": pair[1]}),
    "unrolled": lambda: im.MeanSquaredError(output_transform=lambda pair: tuple(list(one) for one in hot(pair))),
    "not unrolled": lambda: im.Average(output_transform=lambda pair: [pair[0].mean().item()][0], skip_unrolling=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_metric_of_any_kind_is_the_same_everywhere(kind):
    histories = [run(backend, {"m": KINDS[kind]()}) for backend in BACKENDS]
    assert histories[0] == histories[1] == histories[2]
    assert any(name.startswith("train/m") for name in histories[0][0])
    assert any(name.startswith("val/m") for name in histories[0][0])


PAIRS = (("reference", "ignite"), ("ignite", "reference"), ("lightning", "ignite"))


def resumed(first, second, kind, folder, stop, epochs=3):
    """Train to ``stop`` steps, go on elsewhere, and return what the last two epochs measured, and without a stop."""
    make = partial(UnifiedTrainer, accelerator="cpu", seed=3, enable_progress_bar=False, default_root_dir=folder)
    loaders = (
        lambda: DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True),
        lambda: DataLoader(TensorDataset(X, Y), batch_size=4),
    )

    def spec():
        optimizer = partial(torch.optim.SGD, lr=0.5)
        return TrainSpec(model=model(), loss=cross_entropy, optimizer=optimizer, metrics={"m": KINDS[kind]()})

    whole = make(first, max_epochs=epochs).fit(spec(), *(loader() for loader in loaders)).history
    saved = ModelCheckpoint(folder / "files", "{step}", every_n_train_steps=stop)
    make(first, max_epochs=epochs, max_steps=stop, callbacks=[saved]).fit(spec(), *(loader() for loader in loaders))
    again = make(second, max_epochs=epochs, callbacks=[ModelCheckpoint(folder / "again")])
    path = folder / "files" / f"step={stop}.ckpt"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ModelCheckpoint writes into")  # another folder, which is meant
        return again.fit(spec(), *(loader() for loader in loaders), ckpt_path=path).history, whole


@pytest.mark.parametrize("stop", [6, 8], ids=["midway", "between epochs"])
@pytest.mark.parametrize("kind", ["MinMax", "bootstrap", "multioutput", "running", "running average", "mean IoU"])
def test_metric_of_any_kind_goes_on_after_a_resume(kind, stop, tmp_path):
    for first, second in PAIRS:
        history, whole = resumed(first, second, kind, tmp_path / first, stop)
        assert history[-1] == whole[-1]
        assert [row for row in history if row["epoch"] == 1][-1:] in ([], whole[1:2])


# Some metrics warn that the epoch in which the run stops has too few samples.
@pytest.mark.filterwarnings("ignore:.*was called before the ``update`` method")
@pytest.mark.filterwarnings("ignore:No (positive|negative) samples in targets")
@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 6, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_goes_on_after_a_resume(kind, stop, tmp_path):
    for first, second in PAIRS:
        history, whole = resumed(first, second, kind, tmp_path / first, stop)
        assert history[-2:] == whole[-2:]


def test_forgotten_memory_of_a_metric_would_be_noticed(tmp_path, monkeypatch):
    """A negative control."""
    monkeypatch.setattr(StageMeter, "memory", lambda self: {})
    with pytest.raises(AssertionError):
        test_metric_of_any_kind_goes_on_after_a_resume("MinMax", 8, tmp_path)


def test_forgotten_state_within_a_wrapper_would_be_noticed(tmp_path, monkeypatch):
    """A negative control: a wrapper's ``persistent`` asks only itself."""
    monkeypatch.setattr("unitrain.compat.torchmetrics.make_persistent", lambda metric: metric.persistent(mode=True))
    with pytest.raises((AssertionError, UnitrainError)):
        test_metric_of_any_kind_goes_on_after_a_resume("bootstrap", 6, tmp_path)


with torch.no_grad():
    OUTPUT = model()(X)
RIGHT = (OUTPUT.argmax(1) == Y).float()
BY_HAND = {
    "second best": (
        lambda: im.Accuracy(
            output_transform=lambda pair: (pair[0].scatter(1, pair[0].argmax(1, keepdim=True), -9.0), pair[1])
        ),
        (OUTPUT.topk(2)[1][:, 1] == Y).float().mean(),
    ),
    "one against the rest": (
        lambda: im.Accuracy(output_transform=lambda pair: (one_hot(pair[0].argmax(1), 3)[:, 1], (pair[1] == 1).long())),
        ((OUTPUT.argmax(1) == 1) == (Y == 1)).float().mean(),
    ),
    "loss of twice": (
        lambda: im.Loss(cross_entropy, output_transform=lambda pair: (pair[0] * 2, pair[1])),
        cross_entropy(OUTPUT * 2, Y),
    ),
    "square": (
        lambda: im.MeanSquaredError(output_transform=hot),
        (OUTPUT.softmax(1) - one_hot(Y, 3)).square().sum() / SIZE,
    ),
    "average of batches": (
        lambda: im.Average(output_transform=lambda pair: pair[0].mean()),
        sum(part.mean() for part in OUTPUT.split(4)) / 3,
    ),
    "running average": (
        lambda: im.RunningAverage(src=im.Accuracy(), alpha=0.5),
        (RIGHT[:4].mean() * 0.5 + RIGHT[4:8].mean() * 0.5) * 0.5 + RIGHT[8:].mean() * 0.5,
    ),
    "sum": (lambda: im.Accuracy() + im.Accuracy(output_transform=lambda pair: pair), 2 * RIGHT.mean()),
    "worst and best": (
        lambda: im.MetricsLambda(
            lambda best, worst: best - worst,
            im.Accuracy(),
            im.Accuracy(output_transform=lambda pair: (-pair[0], pair[1])),
        ),
        RIGHT.mean() - (OUTPUT.argmin(1) == Y).float().mean(),
    ),
    "torchmetrics": (accuracy, RIGHT.mean()),
    "last two batches": (lambda: wrappers.Running(accuracy(), window=2), RIGHT[4:].mean()),
    "function": (lambda: lambda output, target: (output.argmax(1) == target).float().mean(), RIGHT.mean()),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", BY_HAND)
def test_metric_has_the_value_by_hand(kind, backend):
    make, value = BY_HAND[kind]
    assert run(backend, {"m": make()}, "validate")["val/m"] == pytest.approx(float(value), rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_wrapper_remembers_of_all_epochs_is_kept(backend):
    history = run(backend, {"m": wrappers.MinMaxMetric(accuracy())})
    raw = [row["val/m_raw"] for row in history]
    assert [row["val/m_max"] for row in history] == [max(raw[: n + 1]) for n in range(3)]
    assert [row["val/m_min"] for row in history] == [min(raw[: n + 1]) for n in range(3)]


def test_tracker_is_refused_when_the_spec_is_made():
    with pytest.raises(SpecError, match="MetricTracker") as caught:
        TrainSpec(model=model(), metrics={"m": wrappers.MetricTracker(accuracy())})
    assert "FitResult.history" in str(caught.value)


MISFITS = {
    "no num_classes": (lambda: metric("accuracy"), (3, Y), 'metric("accuracy", num_classes=3)'),
    "in a collection": (lambda: tm.MetricCollection([metric("f1")]), (3, Y), "num_classes=3"),
    "one column": (lambda: metric("f1"), (1, Y % 2 + 0.0), "(4, 1)"),
    "one column of two classes": (lambda: metric("f1", num_classes=2), (1, Y[:, None] % 2 + 0.0), "omit it"),
    "targets not whole": (lambda: metric("f1"), (3, torch.full((SIZE, 3), 0.5)), "target.long()"),
    "classes not whole": (lambda: metric("f1", num_classes=3), (3, Y + 0.5), "classes (B,)"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", MISFITS)
def test_metric_that_does_not_fit_is_refused_with_its_name(case, backend):
    make, (columns, target), hint = MISFITS[case]
    torch.manual_seed(0)
    net = nn.Linear(4, columns)
    spec = TrainSpec(model=net, loss=lambda output, target: output.mean(), metrics={"mine": make()})
    trainer = UnifiedTrainer(backend, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(SpecError, match=rf"the metric 'mine' was given the output Tensor \(4, {columns}\)") as caught:
        trainer.validate(spec, DataLoader(TensorDataset(X, target), batch_size=4))
    assert hint in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "given",
    [tm.MeanSquaredError(), im.MeanSquaredError(), lambda output, target: 1 / 0],
    ids=["torchmetrics", "ignite", "function"],
)
def test_error_of_a_metric_says_which_and_what_it_was_given(given, backend):
    with pytest.raises((RuntimeError, ValueError, ZeroDivisionError)) as caught:
        run(backend, {"mine": given}, "validate")
    assert any("metric 'mine' was given the output Tensor (4, 3)" in note for note in caught.value.__notes__)


class Dict(nn.Linear):
    def forward(self, given):
        return {"out": super().forward(given)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", ["fit", "validate"])
def test_output_or_input_of_parts_gets_a_hint(backend, call):
    trainer = UnifiedTrainer(backend, max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    make = partial(TrainSpec, loss=cross_entropy, optimizer=partial(torch.optim.SGD, lr=0.1))
    with pytest.raises(TypeError) as caught:
        getattr(trainer, call)(make(model=Dict(4, 3)), [(X, Y)])
    (note,) = [one for one in caught.value.__notes__ if "Hint" in one]
    assert "dict of 1 {'out': Tensor (11, 3) float32}" in note
    assert "TrainSpec(training_step=, validation_step=)" in note
    with pytest.raises(TypeError) as caught:
        getattr(trainer, call)(make(model=model()), [({"ids": X}, Y)])
    (note,) = [one for one in caught.value.__notes__ if "Hint" in one]
    assert "dict of 1 {'ids': Tensor (11, 4) float32}" in note
    assert "model(**" in note
