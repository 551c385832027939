"""The epochs in which EarlyStopping stops, in tables, and against Lightning's own."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unitrain import ConfigError, EarlyStopping, Event, UnifiedTrainer
from unitrain.callbacks.comparison import beyond, improved

NAN, INF = math.nan, math.inf
TENTH = torch.tensor(0.1).item()
"""What 0.1 is in float32."""

TABLE = {
    # name: (scores, arguments, the epoch after which it stops)
    "min improves": ([5, 4, 3, 2, 1], {"patience": 1}, None),
    "min gets worse": ([1, 2, 3, 4], {"patience": 2}, 2),
    "min recovers in time": ([3, 4, 2, 3, 1, 2], {"patience": 2}, None),
    "max improves": ([1, 2, 3, 4], {"patience": 1, "mode": "max"}, None),
    "max gets worse": ([4, 3, 2, 1], {"patience": 3, "mode": "max"}, 3),
    "tie is no improvement": ([1, 1, 1, 1], {"patience": 2}, 2),
    "tie is no improvement, max": ([1, 1, 1, 1], {"patience": 2, "mode": "max"}, 2),
    "patience 0 stops at the first": ([2, 1, 1, 1], {"patience": 0}, 2),
    "patience 1 stops at the first": ([2, 1, 1, 1], {"patience": 1}, 2),
    "exactly min_delta is none": ([1.0, 0.5, 0.5], {"patience": 1, "min_delta": 0.5}, 1),
    "above min_delta is one": ([1.0, 0.25, 0.25], {"patience": 1, "min_delta": 0.5}, 2),
    "exactly min_delta is none, max": ([1.0, 1.5, 1.5], {"patience": 1, "min_delta": 0.5, "mode": "max"}, 1),
    # 1.0 - 0.9 is 0.09999999999999998 in double, and 0.10000002384185791 in float32
    "min_delta in float32": ([1.0, 0.9, 0.8, 0.8], {"patience": 1, "min_delta": 0.1}, 1),
    "below float32's step is a tie": ([1.0, 1.0 - 1e-9, 1.0 - 2e-9], {"patience": 2}, 2),
    "NaN stops at once": ([3, 2, NAN, 1], {"patience": 9}, 2),
    "NaN at first": ([NAN, 2, 1], {"patience": 9}, 0),
    "inf stops at once": ([3, INF, 1], {"patience": 9}, 1),
    "-inf stops at once": ([3, -INF, 1], {"patience": 9}, 1),
    "NaN is no improvement": ([3, NAN, 2, NAN, NAN, 1], {"patience": 2, "check_finite": False}, 4),
    "NaN at first is no improvement": ([NAN, NAN, 1], {"patience": 2, "check_finite": False}, 1),
    "inf is worse": ([3, INF, INF, 1], {"patience": 2, "check_finite": False}, 2),
    "-inf cannot be beaten": ([3, -INF, 1, 0], {"patience": 2, "check_finite": False}, 3),
    "stopping threshold": ([3, 2, 1, 0], {"stopping_threshold": 1.5}, 2),
    "stopping threshold is strict": ([3, 2, 1, 0], {"stopping_threshold": 1}, 3),
    "stopping threshold, max": ([0, 1, 2, 3], {"stopping_threshold": 1, "mode": "max"}, 2),
    "stopping threshold in float32": ([1, 0.1, 0], {"stopping_threshold": TENTH}, 2),
    "divergence threshold": ([1, 2, 3, 0], {"divergence_threshold": 2, "patience": 9}, 2),
    "divergence threshold, max": ([3, 2, 1, 4], {"divergence_threshold": 2, "mode": "max", "patience": 9}, 2),
    "threshold comes before patience": ([1, 1, 1], {"divergence_threshold": 0.5, "patience": 9}, 0),
}


def stop_epoch(scores, arguments):
    """Return the epoch after which EarlyStopping asks for the end, without a run."""
    stopping = EarlyStopping("s", **arguments)
    for epoch, score in enumerate(scores):
        requested = []
        state = SimpleNamespace(epoch=epoch, metrics={})
        hub = SimpleNamespace(epoch_metrics={"s": float(score)}, state=state, request_stop=requested.append)
        stopping.decide(SimpleNamespace(hub=hub, state=state))
        if requested:
            assert requested == ["early_stopping"]
            assert stopping.stopped_epoch == epoch
            assert stopping.reason
            return epoch
    return None


def lightning_stop_epoch(scores, arguments):
    stopping = pl.callbacks.EarlyStopping("s", **arguments)
    for epoch, score in enumerate(scores):
        if stopping._evaluate_stopping_criteria(torch.tensor(float(score)))[0]:
            return epoch
    return None


@pytest.mark.parametrize("name", TABLE)
def test_stops_in_the_expected_epoch_and_so_does_lightning(name):
    scores, arguments, expected = TABLE[name]
    assert stop_epoch(scores, arguments) == expected
    assert lightning_stop_epoch(scores, arguments) == expected


NUMBERS = st.one_of(
    st.sampled_from([NAN, INF, -INF, 0.0, 0.1, 0.2, 0.3, 1.0, TENTH]), st.floats(-3, 3, width=32), st.floats(-3, 3)
)


@given(
    st.lists(NUMBERS, max_size=8),
    st.sampled_from(["min", "max"]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.1, 0.2, 0.5, TENTH]),
    st.booleans(),
    st.one_of(st.none(), NUMBERS),
    st.one_of(st.none(), NUMBERS),
)
def test_decides_as_lightning_does(scores, mode, patience, min_delta, check_finite, stopping, divergence):
    arguments = {
        "mode": mode,
        "patience": patience,
        "min_delta": min_delta,
        "check_finite": check_finite,
        "stopping_threshold": stopping,
        "divergence_threshold": divergence,
    }
    assert stop_epoch(scores, arguments) == lightning_stop_epoch(scores, arguments)


class Scored(pl.LightningModule):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        return self.layer(batch[0]).mean()

    def on_train_epoch_end(self):
        self.log("train/score", self.scores[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize(
    "name", ["min gets worse", "patience 0 stops at the first", "NaN stops at once", "min_delta in float32"]
)
def test_a_run_ends_where_a_run_of_plain_lightning_ends(framework, name, fit, scores, data, tmp_path):
    values, arguments, expected = TABLE[name]
    trainer = pl.Trainer(
        max_epochs=len(values), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", callbacks=[pl.callbacks.EarlyStopping("train/score", **arguments)],
    )  # fmt: skip
    trainer.fit(Scored(values), torch.utils.data.DataLoader(data(), batch_size=None))
    result, _ = fit(framework, scores(values), EarlyStopping("train/score", **arguments), max_epochs=len(values))
    assert trainer.current_epoch == result.epoch + 1 == expected + 1
    assert result.stopped_by == ("early_stopping" if expected + 1 < len(values) else result.stopped_by)


def test_only_epochs_with_a_validation_count(framework, fit, data, make_spec):
    values = iter([3.0, 2.0, 2.0, 1.0])
    spec = make_spec(
        validation_step=lambda model, batch: {"score": values_of[-1]},
        callbacks=[EarlyStopping("val/score", patience=1)],
    )
    values_of = []
    trainer = UnifiedTrainer(framework, max_epochs=12, check_val_every_n_epoch=2, enable_progress_bar=False)
    trainer.on(Event.VAL_START, lambda: values_of.append(next(values)))
    result = trainer.fit(spec, data(), data(1))
    # measured in epochs 1, 3 and 5; the third is no improvement
    assert (result.epoch, result.stopped_by) == (5, "early_stopping")


def test_epochs_that_do_not_log_the_metric_do_not_count(framework, fit, scores):
    logged = [2.0, None, None, 1.0, None, 1.0, 0.0]
    result, _ = fit(framework, scores(logged), EarlyStopping("train/score", patience=1), max_epochs=7)
    assert result.epoch == 5


def test_a_metric_that_no_one_logs_is_refused_before_training(framework, fit, data):
    with pytest.raises(ConfigError, match="available: train/loss, val/loss") as caught:
        fit(framework, EarlyStopping("val/los"), val=data(1))
    assert "did you mean 'val/loss'" in str(caught.value)


def test_a_metric_of_a_validation_that_never_runs_is_refused_before_training(framework, fit, scores, data):
    seen = scores([1.0] * 9)
    for options in ({}, {"val": data(1), "check_val_every_n_epoch": 9}):
        with pytest.raises(ConfigError, match="monitor='val/loss'"):
            fit(framework, seen, EarlyStopping("val/loss"), **options)


def test_a_metric_that_handlers_might_log_is_refused_after_the_first_epoch(framework, fit, scores):
    seen = scores({0: 1.0})  # a second epoch would be a KeyError
    with pytest.raises(ConfigError, match="available: train/loss, train/score") as caught:
        fit(framework, seen, EarlyStopping("train/scores"))
    assert "did you mean 'train/score'" in str(caught.value)


def test_not_strict_waits_for_ever(framework, fit):
    with pytest.warns(UserWarning, match="'train/anything' was never measured"):
        result = fit(framework, EarlyStopping("train/anything", strict=False))[0]
    assert result.stopped_by == "max_epochs"


def test_a_validation_that_is_still_to_come_is_awaited(framework, fit, data, make_spec):
    spec = make_spec(
        validation_step=lambda model, batch: {"own": 1.0}, callbacks=[EarlyStopping("val/own", patience=1)]
    )
    result, _ = fit(framework, spec=spec, val=data(1), check_val_every_n_epoch=3, max_epochs=9)
    assert result.epoch == 5


def test_restart_inside_patience_goes_on_counting():
    values = [3.0, 2.0, 2.5, 2.4, 2.3]
    first = EarlyStopping("s", patience=3)
    for value in values[:4]:
        assert not first._judge(value)
    second = EarlyStopping("s", patience=3)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert (second.wait, second.best) == (2, 2.0)
    assert second._judge(values[4])


def test_a_second_fit_starts_anew(framework, fit, scores):
    stopping = EarlyStopping("train/score", patience=1)
    results = [
        fit(framework, scores(values), stopping, max_epochs=4)[0] for values in ([1.0] * 4, [9.0, 8.0, 7.0, 6.0])
    ]
    assert [result.epoch for result in results] == [1, 3]
    assert stopping.stopped_epoch is None


def test_state_is_plain(tmp_path):
    stopping = EarlyStopping("s")
    stopping._judge(1.0)
    torch.save(stopping.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == stopping.state_dict()


@pytest.mark.parametrize(
    "arguments",
    [
        {"monitor": ""},
        {"monitor": 3},
        {"mode": "auto"},
        {"patience": -1},
        {"patience": 1.5},
        {"patience": True},
        {"min_delta": -1},
        {"min_delta": NAN},
    ],
)
def test_what_cannot_be_meant_is_refused(arguments):
    with pytest.raises(ConfigError, match="\nHint: "):
        EarlyStopping(**{"monitor": "s", **arguments})


def test_decision_core_is_strict_and_in_float32():
    assert improved(0.5, 1.0, "min")
    assert not improved(1.0, 1.0, "min")
    assert not improved(1.0 - 1e-9, 1.0, "min")
    assert not improved(NAN, 1.0, "min")
    assert not improved(1.0, NAN, "max")
    assert beyond(2.0, 1.0, "max")
    assert not beyond(1.0, 1.0, "max")


ODD = st.sampled_from([0.0, -0.0, INF, -INF, NAN, 1e-45, 3.4028235e38, 1e300, 1.0, 1.0 + 2**-24, TENTH])


@settings(max_examples=2000, deadline=None)
@given(st.floats() | ODD, st.floats() | ODD, st.floats(0, 1e30), st.sampled_from(["min", "max"]))
def test_decisions_are_those_of_float32_tensors(current, best, min_delta, mode):
    """Which Lightning's ``EarlyStopping`` compares; here they are Python's numbers, for speed."""
    compare, signed = (torch.lt, -min_delta) if mode == "min" else (torch.gt, min_delta)
    now, before = (torch.tensor(value, dtype=torch.float32) for value in (current, best))
    assert improved(current, best, mode, min_delta) == bool(compare(now - signed, before))
    assert beyond(current, best, mode) == bool(compare(now, before))
