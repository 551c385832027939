"""Figures go to the trackers that take them; the others are named, and no figure can stop a run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from unitrain import Callback, CSVLogger, Event, SpecError, TensorBoardLogger, UnifiedTrainer
from unitrain.loggers import outlet
from unitrain.testing import cases
from unitrain.testing.models import loader

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")


def drawn(color="red", figure=None):
    """Return a figure that is all of one colour."""
    figure = figure or Figure(figsize=(0.4, 0.3), dpi=100)
    figure.set_facecolor(color)
    return figure


class Draw(Callback):
    """Logs one and the same figure, drawn anew each time."""

    def __init__(self):
        self.figure = drawn()

    def on_epoch_end(self, run):
        run.log_figure("val/square", drawn(("red", "blue")[run.state.epoch], self.figure))


RED, BLUE = (255, 0, 0), (0, 0, 255)


def colour(path):
    return tuple(round(255 * float(one)) for one in imread(path)[0, 0, :3])


def spec():
    return cases.spec(callbacks=[Draw()])


def test_csv_logger_writes_pictures_beside_its_file(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    fit(framework, logger, spec=spec)
    folder = logger.folder / "figures" / "val"
    assert sorted(path.name for path in folder.iterdir()) == ["square-12.png", "square-6.png"]
    assert colour(folder / "square-6.png") == RED
    assert colour(folder / "square-12.png") == BLUE
    assert imread(folder / "square-6.png").shape[:2] == (30, 40)


def test_tensorboard_holds_images(framework, fit, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger, draw = TensorBoardLogger(tmp_path), Draw()
    canvas = draw.figure.canvas
    fit(framework, logger, spec=lambda: cases.spec(callbacks=[draw]))
    read = EventAccumulator(str(logger.folder), size_guidance={"images": 0})
    read.Reload()
    found = read.Images("val/square")
    assert [event.step for event in found] == [6, 12]
    assert [colour(io.BytesIO(event.encoded_image_string)) for event in found] == [RED, BLUE]
    assert draw.figure.canvas is canvas


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow_holds_artifacts(framework, fit, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from unitrain import MLflowLogger

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)  # a local store puts its artifacts beside it
    uri = f"sqlite:///{tmp_path}/store.db"
    logger = MLflowLogger("figures", tracking_uri=uri)
    fit(framework, logger, spec=spec)
    client = MlflowClient(uri)
    found = [one.path for one in client.list_artifacts(logger.run_id, "figures/val")]
    assert found == ["figures/val/square-12.png", "figures/val/square-6.png"]
    assert colour(client.download_artifacts(logger.run_id, found[0], str(tmp_path))) == BLUE


def test_logger_of_ignite_holds_images(framework, fit, tmp_path):
    from ignite.handlers.tensorboard_logger import TensorboardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorboardLogger(log_dir=str(tmp_path)) as logger:
        fit(framework, logger, spec=spec)
    read = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    read.Reload()
    assert [event.step for event in read.Images("val/square")] == [6, 12]


class Least:
    def log_metrics(self, metrics, step):
        pass


def test_tracker_that_takes_none_is_named_once(framework, fit, tmp_path):
    with pytest.warns(UserWarning, match=r"the tracker Least has no log_figure\(\)") as caught:
        fit(framework, Least(), CSVLogger(tmp_path), spec=spec)
    assert len(caught) == 1
    assert len(list(tmp_path.glob("run/figures/val/*.png"))) == 2


class Failing:
    """Takes figures again from the second call on."""

    def __init__(self):
        self.calls, self.taken = 0, []

    def log_metrics(self, metrics, step):
        pass

    def log_figure(self, name, figure, step):
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("down")
        file = io.BytesIO()
        figure.savefig(file, format="png")
        file.seek(0)
        self.taken.append((name, step, colour(file)))


def test_figure_that_waits_is_what_it_was_when_it_was_logged(framework, fit, monkeypatch):
    monkeypatch.setattr(outlet, "_FIRST_PAUSE", 0.0)
    tracker = Failing()
    with pytest.warns(UserWarning, match="the tracker Failing failed: ConnectionError"):
        fit(framework, tracker, spec=spec)
    assert tracker.taken == [("val/square", 6, RED), ("val/square", 12, BLUE)]


class Broken(Figure):
    def savefig(self, *args, **kwargs):
        raise RuntimeError("cannot be drawn")


def test_figure_that_cannot_be_drawn_costs_itself(framework, fit, tmp_path):
    class Log(Callback):
        def on_fit_start(self, run):
            run.log_figure("broken", Broken())

    logger = CSVLogger(tmp_path)
    with pytest.warns(UserWarning, match="failed") as caught:
        trainer = fit(framework, logger, spec=lambda: cases.spec(callbacks=[Log()]))
    assert trainer.state.step == 12
    assert "cannot be drawn" in str(caught[0].message)
    assert str(caught[-1].message).endswith("1 figures were lost.")
    assert logger.path.read_text().count("\n") == 9  # every row is there


def test_figure_of_an_evaluation_is_logged_at_its_step(framework, fit, tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = fit(framework, logger)
    trainer.on(Event.TEST_END, lambda run: run.log_figure("confusion", drawn()))
    trainer.test(cases.spec(), loader())
    assert (tmp_path / "run" / "figures" / "confusion-12.png").exists()


@pytest.mark.parametrize("name", ["", "../out", "/etc/x", "a//b", "a\\b", 3, "."])
def test_name_that_leaves_the_folder_is_refused(framework, tmp_path, name):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, loggers=[CSVLogger(tmp_path)])
    trainer.on(Event.FIT_START, lambda run: run.log_figure(name, drawn()))
    with pytest.raises(SpecError, match="name of a figure"):
        trainer.fit(cases.spec(), loader())


@pytest.mark.parametrize("figure", [np.zeros((3, 3)), Figure, None])
def test_what_is_no_figure_is_refused_without_trackers_too(framework, figure):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.on(Event.FIT_START, lambda run: run.log_figure("x", figure))
    with pytest.raises(SpecError, match="takes a matplotlib figure"):
        trainer.fit(cases.spec(), loader())
