"""What a tracker refuses costs that value alone; what it cannot take for a while is kept."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import pytest

from unitrain import Event, UnifiedTrainer, seed_everything
from unitrain.loggers import outlet
from unitrain.loggers.names import MLflowNames
from unitrain.testing import cases
from unitrain.testing.models import loader


class Rejected(Exception):
    """As an HTTP client raises it."""

    def __init__(self, status):
        super().__init__(f"status {status}")
        self.status_code = status


class Strict:
    """Refuses some names, or what ``rule`` says."""

    def __init__(self, rule=lambda name, value: "@" in name, error=lambda: ValueError("bad name")):
        self.rule, self.error, self.rows, self.params, self.calls = rule, error, [], None, 0

    def _check(self, values):
        self.calls += 1
        if any(self.rule(name, value) for name, value in values.items()):
            raise self.error()

    def log_metrics(self, metrics, step):
        self._check(metrics)
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params):
        self._check(params)
        self.params = params


def share(output, target):
    return (output.argmax(dim=-1) == target).float().mean()


@contextmanager
def recorded():
    """Record the warnings of trackers, whatever else is shown."""
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    found += [text for one in caught if "the tracker" in (text := str(one.message))]


def send(one, rows):
    for step, row in enumerate(rows):
        one.send("log_metrics", row, step)


def fit(framework, tracker, *, log="acc@5", hparams=None, names=("acc@1",)):
    seed_everything(0)
    metrics = dict.fromkeys(names, share)
    trainer = UnifiedTrainer(
        framework, max_epochs=3, seed=0, loggers=[tracker], log_every_n_steps=2, enable_progress_bar=False
    )
    if log:
        trainer.on(Event.EPOCH_END(once=1), lambda run: run.log(log, 0.5))
    trainer.fit(cases.spec("mlp", "sgd", "step", metrics=metrics, hparams=hparams), loader())
    return trainer


def without(rows, *names):
    return [(step, {name: value for name, value in row.items() if name not in names}) for step, row in rows]


REFUSALS = {
    "ValueError": lambda: ValueError("bad name"),
    "TypeError": lambda: TypeError("bad name"),
    "status 400": lambda: Rejected(400),
    "status 422": lambda: Rejected(422),
}


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_value_is_left_out_and_told_once_and_all_else_arrives(framework, error):
    free, strict = Strict(lambda *_: False), Strict(error=error)
    fit(framework, free, hparams={"k@5": 1, "lr": 0.1})
    with recorded() as told:
        fit(framework, strict, hparams={"k@5": 1, "lr": 0.1})
    assert any("tracker Strict refused the value" in one for one in told)
    assert len(strict.rows) == len(free.rows) == 12
    assert strict.rows == without(free.rows, "train/acc@1", "train/acc@5")
    assert strict.params == {"lr": 0.1}
    assert sorted(one.split("'")[1] for one in told) == ["k@5", "train/acc@1", "train/acc@5"]


def test_a_known_refusal_costs_no_further_call(framework):
    strict = Strict()
    with recorded() as told:
        fit(framework, strict, log=None)
    assert any("refused" in one for one in told)
    assert strict.calls <= len(strict.rows) + 4  # found in the first epoch, left out in the others


def test_a_refused_value_that_is_not_finite_does_not_cost_the_later_ones():
    one = outlet.Outlet(tracker := Strict(lambda _, value: value != value))
    with recorded() as told:
        send(one, [{"loss": loss, "epoch": 0} for loss in (1.0, float("nan"), float("nan"), 2.0)])
    assert any("refused the value 'loss'" in one for one in told)
    assert [row.get("loss") for _, row in tracker.rows] == [1.0, None, None, 2.0]
    assert len(told) == 1


def test_a_row_that_is_refused_as_a_whole_is_dropped_and_counted():
    now = [0]
    one = outlet.Outlet(tracker := Strict(lambda *_: now[0] in (2, 3), lambda: ValueError("step goes back")))
    one.open()

    def run():
        for now[0] in range(6):
            one.send("log_metrics", {"loss": 1.0, "epoch": 0}, now[0])
        one.close("success")

    with recorded() as told:
        run()
    assert any("refused rows: ValueError" in one for one in told)
    assert [step for step, _ in tracker.rows] == [0, 1, 4, 5]
    assert told[-1].endswith("2 rows were lost.")


@pytest.mark.parametrize(
    "error", [ConnectionError("down"), TimeoutError("slow"), Rejected(503), Rejected(429), RuntimeError("what")]
)
def test_what_may_pass_keeps_the_row(error, monkeypatch):
    monkeypatch.setattr(outlet, "_FIRST_PAUSE", 0.0)
    down = [True, True, False]

    def rule(*_):
        return bool(down) and down.pop(0)

    one = outlet.Outlet(tracker := Strict(rule, lambda: error))
    with recorded() as told:
        send(one, [{"loss": 1.0}] * 4)
    assert any("unsent rows are kept and retried" in one for one in told)
    assert [step for step, _ in tracker.rows] == [0, 1, 2, 3]


def test_an_unknown_error_blocks_the_rows_behind_it_no_longer_than_the_run(framework):
    strict = Strict(error=lambda: RuntimeError("no such thing"))
    with recorded() as told:
        fit(framework, strict)
    assert any("refused the value 'train/acc@5'" in one for one in told)
    assert len(strict.rows) == 12


def test_a_tracker_that_is_gone_is_not_asked_for_each_value_of_each_row():
    one = outlet.Outlet(tracker := Strict(lambda *_: True, lambda: RuntimeError("gone")))
    one.open()
    with recorded() as told:
        send(one, [{"a": 1.0, "b": 1.0, "c": 1.0}] * 50)
    assert any("failed" in one for one in told)
    with recorded() as told:
        one.close("failed")
    assert any("failed and never recovered: 50 rows were lost" in one for one in told)
    assert tracker.calls < 2 * 50


class Warns:
    """Warns of itself, fails, and refuses."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        warnings.warn("this library is old", DeprecationWarning, stacklevel=1)
        if step == 4:
            raise ConnectionError("down")
        self.rows.append(step)


def test_with_warnings_as_errors_a_failing_tracker_does_not_end_the_fit(framework):
    warning, strict = Warns(), Strict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        before = list(warnings.filters)
        trainer = UnifiedTrainer(
            framework, max_epochs=2, loggers=[warning, strict], log_every_n_steps=1, enable_progress_bar=False
        )
        trainer.on(Event.EPOCH_END, lambda run: run.log("acc@5", 0.5))
        trainer.fit(cases.spec("mlp", "sgd", "step"), loader())
        assert warnings.filters == before
    assert trainer.state.step == 12
    assert len(strict.rows) == 14
    assert warning.rows[:3] == [1, 2, 3]


def test_without_telling_refusals_apart_the_queue_is_blocked(framework, monkeypatch):
    monkeypatch.setattr(outlet, "is_refusal", lambda _: False)
    monkeypatch.setattr(outlet.Outlet, "close", lambda *_: None)
    strict = Strict()
    with recorded() as told:
        fit(framework, strict)
    assert any("kept" in one for one in told)
    assert len(strict.rows) < 12


NAMES = {
    "val/acc@5": "val/acc_at_5",
    "f1 (macro)": "f1 _macro_",
    "50%": "50_percent",
    "a/../../b": "b",
    "/loss": "loss",
    "train/loss": "train/loss",
    "über": "über",
    "a:b": "a_b",
}


@pytest.mark.parametrize(("name", "stored"), NAMES.items())
def test_names_for_mlflow_follow_the_table(name, stored):
    from mlflow.utils.validation import _validate_metric_name

    names = MLflowNames()
    if name == stored:
        assert names(name) == name
    else:
        with pytest.warns(UserWarning, match="MLflow does not allow the name"):
            assert names(name) == stored
    assert names(name) == stored  # told once
    _validate_metric_name(stored)


def test_two_names_for_mlflow_stay_two_and_none_is_too_long():
    names = MLflowNames()
    with pytest.warns(UserWarning, match="is stored as"):
        made = [names(one) for one in ("acc_at_5", "acc@5", "a(b", "a)b", "x" * 300, "x" * 301)]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) == 250
