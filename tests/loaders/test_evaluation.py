"""Several loaders to validate, test and predict on: each is measured under its own name, on every backend."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.loaders.conftest import numbers
from unitrain import (
    ConfigError,
    DataError,
    DataSpec,
    EarlyStopping,
    Event,
    LRSchedule,
    ModelCheckpoint,
    SpecError,
)

CLEAN = numbers([1.0, 2.0, 3.0], [6.0])
NOISY = numbers([10.0], [20.0, 30.0], [40.0])
BY_HAND = {  # means weighted by the batches' sizes
    "clean/loss": (1.0 + 2.0 + 3.0 + 6.0) / 4,
    "clean/top": (3.0 * 3 + 6.0) / 4,
    "noisy/loss": 25.0,
    "noisy/top": (10.0 + 30.0 * 2 + 40.0) / 4,
}


def ordered(*values, size=2):
    return DataLoader(TensorDataset(torch.tensor(values), torch.zeros(len(values))), batch_size=size)


def under(prefix, values=BY_HAND):
    return {f"{prefix}/{name}": value for name, value in values.items()}


def test_metrics_by_hand(make_trainer, make_spec):
    trainer = make_trainer()
    result = trainer.fit(make_spec(), CLEAN, {"clean": CLEAN, "noisy": NOISY})
    assert result.metrics == {**under("val"), "train/loss": 3.0, "train/top": 3.75}
    assert all({**row}.items() >= under("val").items() for row in result.history)
    assert trainer.validate(make_spec(), {"clean": CLEAN, "noisy": NOISY}) == under("val")
    assert trainer.test(make_spec(), {"clean": CLEAN, "noisy": NOISY}) == under("test")


class Module:
    """Shaped like a LightningDataModule, and returns what it was given."""

    def __init__(self, val):
        self.val, self.seen = val, []

    def prepare_data(self):
        """Do nothing."""

    def setup(self, stage):
        """Do nothing."""

    def teardown(self, stage):
        """Do nothing."""

    def train_dataloader(self):
        return CLEAN

    def val_dataloader(self):
        return self.val

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.seen.append(dataloader_idx)
        return batch


FORMS = {
    "mapping": (lambda: {"a": ordered(1.0, 2.0), "b": ordered(5.0)}, {"a/loss": 1.5, "b/loss": 5.0}),
    "one in a mapping": (lambda: {"a": ordered(1.0, 2.0)}, {"a/loss": 1.5}),
    "list": (lambda: [ordered(1.0, 2.0), ordered(5.0)], {"0/loss": 1.5, "1/loss": 5.0}),
    "tuple": (lambda: (ordered(1.0, 2.0), ordered(5.0)), {"0/loss": 1.5, "1/loss": 5.0}),
    "one in a list": (lambda: [ordered(1.0, 2.0)], {"loss": 1.5}),
    "batches": (lambda: numbers([1.0, 2.0], [6.0]), {"loss": 3.0}),
}


@pytest.mark.parametrize("way", ["argument", "DataSpec", "datamodule"])
@pytest.mark.parametrize("form", FORMS)
def test_forms(make_trainer, make_spec, form, way):
    make, expected = FORMS[form]
    data = {
        "argument": (CLEAN, make()),
        "DataSpec": (DataSpec(train=CLEAN, val=make()),),
        "datamodule": (Module(make()),),
    }[way]
    found = make_trainer(max_epochs=1).fit(make_spec(metrics=None), *data).metrics
    assert {name: value for name, value in found.items() if name.startswith("val")} == under("val", expected)


def test_transfer_hooks_are_told_the_number_of_the_loader(make_trainer, make_spec):
    data = Module({"clean": CLEAN, "noisy": NOISY})
    make_trainer(max_epochs=1).fit(make_spec(), data)
    assert data.seen == [0, 0, 0, 0, 1, 1, 1]  # those of training first


def test_events_and_the_running_loader(make_trainer, make_spec):
    trainer, seen = make_trainer(max_epochs=1), []
    for event in (Event.VAL_START, Event.VAL_BATCH_START, Event.VAL_BATCH_END, Event.VAL_END):
        trainer.on(event, lambda run, event=event: seen.append((event.value, run.loader_name)))
    trainer.on(Event.VAL_BATCH_END(once=4), lambda run: seen.append(("fourth", run.batch[0].tolist())))
    trainer.fit(make_spec(), CLEAN, {"clean": CLEAN, "noisy": NOISY})
    batches = [("val_batch_start", "clean"), ("val_batch_end", "clean")] * 2
    batches += [("val_batch_start", "noisy"), ("val_batch_end", "noisy")] * 3
    batches.insert(8, ("fourth", [20.0, 30.0]))  # batches are counted through all loaders
    assert seen == [("val_start", None), *batches, ("val_end", None)]


def test_a_single_loader_has_no_name(make_trainer, make_spec):
    trainer, seen = make_trainer(max_epochs=1), []
    trainer.on(Event.BATCH_END | Event.VAL_BATCH_END, lambda run: seen.append(run.loader_name))
    trainer.fit(make_spec(), CLEAN, CLEAN)
    assert seen == [None] * 4


@pytest.mark.parametrize(("limit", "expected"), [(1, (2.0, 10.0)), (0.5, (2.0, 10.0)), (2, (3.0, 20.0))])
def test_limits_hold_for_each_loader(make_trainer, make_spec, limit, expected):
    trainer = make_trainer(limit_val_batches=limit)
    found = trainer.validate(make_spec(metrics=None), {"clean": CLEAN, "noisy": NOISY})
    assert found == dict(zip(("val/clean/loss", "val/noisy/loss"), expected, strict=True))


def test_predictions_are_lists_by_name(make_trainer, make_spec):
    found = make_trainer().predict(make_spec(), {"clean": CLEAN, "noisy": NOISY})
    assert {name: [one.tolist() for one in some] for name, some in found.items()} == {
        "clean": [[1.0, 2.0, 3.0], [6.0]],
        "noisy": [[10.0], [20.0, 30.0], [40.0]],
    }
    assert [one.tolist() for one in make_trainer().predict(make_spec(), [ordered(1.0, 2.0, 3.0)])] == [[1, 2], [3]]


def test_what_is_logged_belongs_to_the_loader_or_to_all(make_trainer, make_spec):
    trainer = make_trainer(max_epochs=1)
    trainer.on(Event.VAL_BATCH_END, lambda run: run.log("most", run.batch[0].max()))
    trainer.on(Event.VAL_BATCH_END, lambda run: run.log("all/most", run.batch[0].max()))
    trainer.on(Event.VAL_END, lambda run: run.log("loss", 7.0))  # no loader measures it, so it is free
    found = trainer.fit(make_spec(metrics=None), CLEAN, {"clean": CLEAN, "noisy": NOISY}).metrics
    del found["train/loss"]
    assert found == {
        "val/clean/loss": 3.0,
        "val/clean/most": 3.75,
        "val/noisy/loss": 25.0,
        "val/noisy/most": 27.5,
        "all/most": (3.75 + 27.5) / 2,
        "val/loss": 7.0,
    }


@pytest.mark.parametrize("name", ["top", "val/clean/top", "val/noisy/loss"])
def test_a_measured_name_cannot_be_logged(make_trainer, make_spec, name):
    trainer = make_trainer()
    trainer.on(Event.VAL_BATCH_END, lambda run: run.log(name, 1.0))
    with pytest.raises(SpecError, match="is a metric of the spec"):
        trainer.fit(make_spec(), CLEAN, {"clean": CLEAN, "noisy": NOISY})


@pytest.mark.parametrize("watch", ["schedule", "early stopping", "checkpoint"])
def test_a_monitor_names_the_loader(make_trainer, make_spec, watch, tmp_path):
    def options(monitor):
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        return {
            "schedule": ({"lr_scheduler": LRSchedule(plateau, monitor=monitor)}, ()),
            "early stopping": ({}, [EarlyStopping(monitor, patience=1)]),
            "checkpoint": ({}, [ModelCheckpoint(tmp_path, monitor=monitor)]),
        }[watch]

    data = {"clean": CLEAN, "noisy": NOISY}
    spec, callbacks = options("val/loss")
    with pytest.raises(ConfigError, match=r"val/loss[\s\S]*val/clean/loss[\s\S]*val/noisy/loss"):
        make_trainer(callbacks=callbacks).fit(make_spec(**spec), CLEAN, data)
    spec, callbacks = options("val/noisy/loss")
    result = make_trainer(callbacks=callbacks, max_epochs=3).fit(make_spec(**spec), CLEAN, data)
    assert result.stopped_by == ("early_stopping" if watch == "early stopping" else "max_epochs")


class Odd:
    """Can be iterated, and says nothing else of itself."""

    def __iter__(self):
        return iter(CLEAN)


REFUSED = {
    "a slash in a name": ({"a/b": CLEAN}, "'a/b'"),
    "an empty name": ({"": CLEAN}, "''"),
    "a number for a name": ({0: CLEAN}, "got 0"),
    "no loader": ({}, "is an empty mapping"),
    "a tensor among loaders": ({"a": CLEAN, "b": torch.zeros(3)}, "'b' must be a DataLoader"),
    "a batch as a mapping": ({"input": torch.zeros(3), "target": torch.zeros(3)}, "'input' must be a DataLoader"),
    "an empty one": ({"a": CLEAN, "b": []}, "'b' is empty"),
    "loaders and batches": ([ordered(1.0), CLEAN[0]], "which could be a list"),
    "what may be loaders": ([Odd(), Odd()], "with a Odd, which could be a list of loaders or of batches"),
    "a mapping in a mapping": ({"a": {"b": CLEAN}}, "'a' must be a DataLoader"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_training(make_trainer, make_spec, case):
    given, says = REFUSED[case]
    trainer = make_trainer()
    trainer.on(Event.FIT_START | Event.TEST_START, lambda: pytest.fail("it has begun"))
    for run in (lambda: trainer.fit(make_spec(), CLEAN, given), lambda: trainer.test(make_spec(), given)):
        with pytest.raises(DataError) as caught:
            run()
        assert says in str(caught.value)
        assert "\nHint: " in str(caught.value)


def test_a_loader_that_turns_out_empty_is_named(make_trainer, make_spec):
    with pytest.raises(DataError, match="val loader 'b' is empty"):
        make_trainer().fit(make_spec(), CLEAN, {"a": CLEAN, "b": DataLoader(Nothing())})


class Nothing(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(())


FAULTS = {
    "measured together": ("_begin", lambda self, part: setattr(self._program, "loader_name", part.name)),
    "logged to the last loader": ("end", None),
}


@pytest.mark.parametrize("backend", ["lightning", "ignite"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(backend, fault, monkeypatch):
    from unitrain.loop import evaluation
    from unitrain.testing.conformance import ALL
    from unitrain.testing.trace import differences, record

    name, seeded = FAULTS[fault]
    end = evaluation.Evaluation.end

    def keeps_the_meter(self):
        self._meter = self._parts[-1].meter  # what is logged at VAL_END goes to the last loader
        end(self)

    expected = record("reference", ALL["several-validations"])
    monkeypatch.setattr(evaluation.Evaluation, name, seeded or keeps_the_meter)
    assert differences(expected, record(backend, ALL["several-validations"]))
