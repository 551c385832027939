"""No tracker stops training, nothing is lost without a word, and the device is not waited for without need."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from unitrain import ConfigError, CSVLogger, Event
from unitrain.loggers import outlet
from unitrain.testing import cases


class Tracker:
    """A tracker that is down in certain calls."""

    def __init__(self, down=()):
        self.down, self.calls, self.rows, self.others = set(down), 0, [], []

    def log_metrics(self, metrics, step):
        self.calls += 1
        if self.calls in self.down:
            raise ConnectionError("down")
        self.rows.append((step, metrics))

    def log_hyperparams(self, params):
        self.others.append(params)

    def save(self):
        self.others.append("save")

    def finalize(self, status):
        self.others.append(status)


@pytest.fixture
def at_once(monkeypatch):
    """Let a tracker be tried again at once."""
    monkeypatch.setattr(outlet, "_FIRST_PAUSE", 0.0)


def test_failing_tracker_gets_every_row_in_order_when_it_is_back(framework, fit, at_once):
    healthy, failing = Tracker(), Tracker(down={2, 3, 4, 7})
    with pytest.warns(UserWarning, match="the tracker Tracker failed: ConnectionError") as caught:
        trainer = fit(framework, healthy, failing)
    assert trainer.state.step == 12
    assert len(caught) == 1  # once
    assert len(failing.rows) == 8
    assert failing.rows == healthy.rows
    assert failing.others == healthy.others == ["save", "success"]


def test_rows_that_are_lost_are_counted(framework, fit):
    failing = Tracker(down=range(3, 99))
    with pytest.warns(UserWarning, match="failed") as caught:
        fit(framework, failing)
    assert [str(one.message).split(": ")[0] for one in caught] == [
        "the tracker Tracker failed",
        "the tracker Tracker failed and never recovered",
    ]
    assert str(caught[1].message).endswith("6 rows were lost.")
    assert len(failing.rows) == 2


def test_failing_tracker_is_not_tried_at_each_row(fit):
    failing = Tracker(down=range(1, 99))
    with pytest.warns(UserWarning, match="failed"):
        fit("reference", failing, log_every_n_steps=1)
    assert failing.calls == 2  # once, and once more at the end


def test_pauses_grow_and_start_anew(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outlet.time, "monotonic", lambda: now[0])
    tracker = Tracker(down={1, 2, 3})
    one = outlet.Outlet(tracker)
    calls = []

    def send_each_second():
        for second in range(12):
            now[0] = float(second)
            one.send("log_metrics", {"x": 1.0}, second)
            calls.append(tracker.calls)

    with pytest.warns(UserWarning, match="failed"):
        send_each_second()
    # tried at 0, 1 and 3 s, and at 7 s it is back and takes all
    assert calls == [1, 2, 2, 3, 3, 3, 3, 11, 12, 13, 14, 15]
    assert [step for step, _ in tracker.rows] == list(range(12))


def test_only_so_many_rows_wait(monkeypatch, fit):
    monkeypatch.setattr(outlet, "_KEPT", 3)
    failing = Tracker(down={1})
    with pytest.warns(UserWarning, match="failed") as caught:
        fit("reference", failing, log_every_n_steps=1)
    assert str(caught[-1].message).endswith("11 rows were lost.")
    assert [step for step, _ in failing.rows] == [11, 12, 12]


def test_tracker_that_fails_at_the_end_does_not_matter(framework, fit):
    class Worse(Tracker):
        def finalize(self, status):
            raise OSError("full")

    with pytest.warns(UserWarning, match="the tracker Worse failed: OSError"):
        assert fit(framework, Worse()).state.step == 12


def test_failed_run_is_ended_as_failed(framework, fit):
    tracker = Tracker()

    def breaks():
        made = cases.spec()
        made.model.register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("on purpose")))
        return made

    with pytest.raises(RuntimeError, match="on purpose"):
        fit(framework, tracker, spec=breaks)
    assert tracker.others == ["save", "failed"]


def test_several_trackers_get_the_same_rows(framework, fit, tmp_path):
    one, two = Tracker(), Tracker()
    fit(framework, one, CSVLogger(tmp_path), two)
    assert len(one.rows) == 8
    assert one.rows == two.rows


def test_tracker_needs_nothing_but_log_metrics(framework, fit):
    class Least:
        rows = 0

        def log_metrics(self, metrics, step):
            self.rows += 1

    least = Least()
    fit(framework, least)
    assert least.rows == 8


def test_logger_of_lightning_works_on_every_backend(framework, fit, tmp_path):
    logger = pl.loggers.CSVLogger(tmp_path, name="native", flush_logs_every_n_steps=1)
    tracker = Tracker()
    fit(framework, logger, tracker, spec=lambda: cases.spec(hparams={"lr": 0.1}))
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        written = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    # Lightning's CSVLogger joins rows of one step
    joined = {}
    for step, row in tracker.rows:
        joined.setdefault(step, {}).update({**row, "step": step})
    merged = {}
    for row in written:
        merged.setdefault(row["step"], {}).update(row)
    assert merged == joined
    assert "lr: 0.1" in Path(logger.log_dir, "hparams.yaml").read_text()


def test_device_is_not_waited_for_where_nothing_is_logged(framework, fit, monkeypatch):
    reads = []
    original = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(1) or original(self))
    counts = []

    def count(run):
        counts.append(len(reads))

    from unitrain import UnifiedTrainer
    from unitrain.testing.models import loader

    trainer = UnifiedTrainer(
        framework, max_epochs=1, enable_progress_bar=False, loggers=[Tracker()], log_every_n_steps=4
    )
    trainer.on(Event.BATCH_START, count)
    trainer.fit(cases.spec("mlp", "sgd", metrics=None), loader())  # AdamW reads its own counters
    # seen at the start of batches 0 to 5: only the row of step 4 reads the device
    assert [after - before for before, after in pairwise(counts)] == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("given", [[object()], [CSVLogger], "csv", CSVLogger("x"), ["csv"]])
def test_what_is_no_tracker_is_refused(framework, given):
    from unitrain import UnifiedTrainer

    with pytest.raises(ConfigError, match=r"loggers must be a sequence.*\n?.*Hint"):
        UnifiedTrainer(framework, loggers=given)


def test_fast_dev_run_tracks_nothing(framework, fit):
    tracker = Tracker()
    fit(framework, tracker, fast_dev_run=True)
    assert tracker.rows == tracker.others == []
