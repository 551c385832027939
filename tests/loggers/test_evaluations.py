"""The results of validate() and test() go to the trackers, behind those of the fit."""

from __future__ import annotations

import csv

import pytest
from matplotlib.figure import Figure

from unitrain import CSVLogger, Event, TensorBoardLogger, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

FRAMEWORKS = ("reference", "lightning", "ignite")


def rows(path):
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def make(framework, *loggers):
    return UnifiedTrainer(framework, max_epochs=2, seed=3, enable_progress_bar=False, loggers=loggers)


def test_evaluations_after_a_fit_go_on_in_its_file(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = fit(framework, logger)
    before = rows(logger.path)
    tested = trainer.test(cases.spec(), loader())
    validated = trainer.validate(cases.spec(), loader())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    *old, first, second = rows(logger.path)
    assert old == before
    for row, result in ((first, tested), (second, validated)):
        assert {name: float(value) for name, value in row.items()} == {"step": 12, "epoch": 1, **result}


def test_evaluation_by_itself_is_a_run_at_step_zero(framework, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = make(framework, logger)
    result = trainer.test(cases.spec(), loader())
    (row,) = rows(logger.path)
    assert {name: float(value) for name, value in row.items()} == {"step": 0, "epoch": 0, **result}
    trainer.validate(cases.spec(), loader())
    assert len(rows(logger.path)) == 2


def test_fit_after_an_evaluation_is_a_run_of_its_own(framework, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = make(framework, logger)
    trainer.validate(cases.spec(), loader())
    trainer.fit(cases.spec(), loader())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]
    assert [row["step"] for row in rows(tmp_path / "run-2" / "metrics.csv")] == ["6", "12"]


def test_another_run_in_between_is_not_written_to(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = fit(framework, logger)
    other = CSVLogger(tmp_path)
    fit(framework, other)
    untouched = other.path.read_bytes()
    trainer.test(cases.spec(), loader())
    assert other.path.read_bytes() == untouched
    assert "test/loss" in rows(logger.path)[-1]


def test_rows_are_the_same_bytes_on_every_backend(fit, tmp_path):
    files = []
    for framework in FRAMEWORKS:
        logger = CSVLogger(tmp_path / framework)
        trainer = fit(framework, logger)
        trainer.test(trainer._spec, loader())
        trainer.validate(trainer._spec, loader())
        files.append(logger.path.read_bytes())
    assert files[0].count(b"\n") == 11  # the header, 8 of the fit, 2 evaluations
    assert files[1:] == files[:1] * 2


def test_result_logged_by_a_handler_is_in_the_row(framework, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = make(framework, logger)
    trainer.on(Event.TEST_END, lambda run: run.log("extra", 5.0))
    trainer.test(cases.spec(), loader())
    assert float(rows(logger.path)[0]["test/extra"]) == 5.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")
def test_tensorboard_shows_both_the_fit_and_the_test(framework, fit, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    trainer = fit(framework, logger)
    result = trainer.test(cases.spec(), loader())
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert [event.step for event in read.Scalars("val/loss")] == [6, 12]
    assert [(event.step, pytest.approx(event.value)) for event in read.Scalars("test/loss")] == [
        (12, result["test/loss"])
    ]


def test_row_of_an_evaluation_is_known_to_a_checkpoint(framework, fit, tmp_path):
    """What goes on behind it keeps the row, and does not cut it."""
    logger = CSVLogger(tmp_path)
    trainer = fit(framework, logger)
    trainer.test(cases.spec(), loader())
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    before = logger.path.read_bytes()
    again = CSVLogger(tmp_path)
    further = UnifiedTrainer(framework, max_epochs=3, seed=3, enable_progress_bar=False, loggers=[again])
    further.fit(cases.spec("mlp", "sgd", "step"), loader(), loader(samples=6), ckpt_path=tmp_path / "saved.ckpt")
    assert again.path == logger.path
    assert again.path.read_bytes().startswith(before)


def test_prediction_tracks_what_handlers_log_and_nothing_else(framework, tmp_path):
    trainer = make(framework, CSVLogger(tmp_path))
    spec = cases.spec(hparams={"lr": 0.1})
    trainer.predict(spec, loader())
    assert list(tmp_path.iterdir()) == []
    trainer.on(Event.PREDICT_END, lambda run: run.log_figure("seen", Figure(figsize=(1, 1))))
    trainer.predict(spec, loader())
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["run/figures/seen-0.png"]
    trainer.test(spec, loader())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["figures", "hparams.json", "metrics.csv"]


def test_failing_tracker_does_not_stop_a_test(framework):
    class Down:
        def log_metrics(self, metrics, step):
            raise ConnectionError("down")

    trainer = make(framework, Down())
    with pytest.warns(UserWarning, match="failed") as caught:
        assert "test/loss" in trainer.test(cases.spec(), loader())
    assert str(caught[-1].message).endswith("1 rows were lost.")
