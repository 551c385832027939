"""What a newcomer meets in the first hours: hints for common slips, and what a terminal or a notebook shows."""

import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchmetrics.classification import MulticlassConfusionMatrix

import unitrain
from unitrain import (
    BatchSizeFinder,
    ConfigError,
    CSVLogger,
    DataError,
    EarlyStopping,
    Event,
    LRMonitor,
    SpecError,
    TrainSpec,
    UnifiedTrainer,
    summarize,
)
from unitrain.utilities.columns import in_columns

BACKENDS = ("lightning", "ignite", "reference")


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (lambda: {"callbacks": LRMonitor()}, ConfigError, "put it in a list: [LRMonitor(...)]"),
        (lambda: {"callbacks": EarlyStopping}, ConfigError, "put it in a list: [EarlyStopping(...)]"),
        (lambda: {"callbacks": [EarlyStopping]}, SpecError, "create an instance first: EarlyStopping(...)."),
        (lambda: {"callbacks": [CSVLogger("runs")]}, SpecError, "pass trackers to loggers=[CSVLogger(...)]."),
        (lambda: {"loggers": CSVLogger("runs")}, ConfigError, "put it in a list: [CSVLogger(...)]"),
        (lambda: {"loggers": "tensorboard"}, ConfigError, 'loggers=[CSVLogger("runs")]'),
    ],
)
def test_a_slip_with_callbacks_or_loggers_is_told_the_way_out(framework, options, error, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(f"Hint: {hint}")):
        UnifiedTrainer(framework, **options())


def test_an_input_in_the_place_of_a_depth_is_told_its_keyword():
    with pytest.raises(SpecError, match=r"got a tensor\.\nHint: summarize\(example_input=\.\.\.\)"):
        summarize(nn.Linear(4, 1), torch.zeros(2, 4))


def test_a_dataset_for_the_batch_size_finder_is_told_to_be_loaded():
    data = TensorDataset(torch.zeros(8, 4), torch.zeros(8, 1))
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    with pytest.raises(DataError, match=r"Hint: pass DataLoader\(dataset\)"):
        BatchSizeFinder().run("reference", spec, data)


def test_an_unknown_name_carries_what_a_traceback_needs_for_its_suggestion():
    with pytest.raises(AttributeError) as caught:
        unitrain.EarlyStop  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("EarlyStop", unitrain)


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_printed_result_tells_of_matrices(framework):
    data = [(torch.eye(3), torch.tensor([0, 1, 2]))]
    spec = TrainSpec(
        model=nn.Linear(3, 3),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        metrics={"cm": MulticlassConfusionMatrix(3)},
    )
    result = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False).fit(spec, data, data)
    assert str(result).splitlines()[-1] == "also in .tensors: val/cm (3, 3), train/cm (3, 3)"
    assert "val/cm" not in result.metrics


def test_an_explanation_names_callbacks_by_their_classes():
    trainer = UnifiedTrainer("lightning", gradient_clip_val=1.0, callbacks=[EarlyStopping("val/loss")])
    shown = str(trainer.explain())
    assert "[EarlyStopping]" in shown
    assert "LightningModule.clip_gradients" in shown


def test_columns_break_a_word_only_where_nothing_else_helps():
    whole = in_columns([("a" * 20, "b b b b b b b b b b")], width=30)
    assert whole[0].startswith("a" * 20)
    assert len(whole) > 1
    assert all(len(line) <= 30 for line in [*whole, *in_columns([("a" * 40, "b" * 40)], width=30)])


def test_a_notebook_shows_a_summary_as_its_table():
    pretty = pytest.importorskip("IPython.lib.pretty")
    summary = summarize(nn.Linear(4, 1))
    assert pretty.pretty(summary) == str(summary)


@pytest.mark.parametrize("framework", BACKENDS)
def test_the_loss_of_a_manual_step_comes_before_what_the_step_has_logged(framework):
    def step(run, batch):
        loss = run.model(batch).mean()
        run.backward(loss)
        run.step()
        run.log("extra", 1.0)
        return loss

    sgd = partial(torch.optim.SGD, lr=0.1)
    spec = TrainSpec(model=nn.Linear(2, 1), optimizer=sgd, training_step=step, automatic_optimization=False)
    result = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False).fit(spec, [torch.ones(2, 2)] * 2)
    assert list(result.metrics) == ["train/loss", "train/extra"]


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("event", [Event.BATCH_END, Event.EPOCH_END])
@pytest.mark.parametrize("name", [1.0, ""])
def test_a_value_logged_under_no_name_is_refused(framework, event, name):
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.on(event, lambda run: run.log(name, 2.0))
    with pytest.raises(SpecError, match=re.escape(f'must be a string; got {name!r}.\nHint: run.log("name", value)')):
        trainer.fit(spec, [(torch.ones(2, 2), torch.ones(2, 1))])


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_handler_that_was_called_too_early_is_refused(framework):
    with pytest.raises(SpecError, match="must be a plain function, got None"):
        UnifiedTrainer(framework).on(Event.EPOCH_END, None)  # what ``report()`` returns, given instead of ``report``


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_function_as_a_metric_that_returns_a_value_a_sample_is_refused(framework):
    hits = {"hits": lambda output, target: output == target}
    sgd = partial(torch.optim.SGD, lr=0.1)
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=sgd, metrics=hits)
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    with pytest.raises(SpecError, match=r"must be a single number"):
        trainer.fit(spec, [(torch.ones(3, 2), torch.ones(3, 1))])
