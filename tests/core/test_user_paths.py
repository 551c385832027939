"""Each public parameter that is a path takes ``~`` for the home folder, and means where the run started."""

from __future__ import annotations

import inspect
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import unitrain
from unitrain import (
    CSVLogger,
    Event,
    LRFinder,
    MLflowLogger,
    ModelCheckpoint,
    PredictionWriter,
    TensorBoardLogger,
    TrainSpec,
    UnifiedTrainer,
    WandbLogger,
    compare,
    convert_checkpoint,
    export_module,
    load_weights,
    tune,
)
from unitrain.testing.comparison import launch
from unitrain.testing.comparison.side import run_side

BATCHES = [(torch.ones(2, 2), torch.ones(2, 1))] * 2
BACKENDS = ("lightning", "ignite", "reference")


def spec():
    return TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))


def trainer(framework="reference", **options):
    return UnifiedTrainer(framework, **{"max_epochs": 1, "enable_progress_bar": False, **options})


def fitted(**options):
    made = trainer(**options)
    made.fit(spec(), BATCHES)
    return made


def saved(path="~/saved.ckpt"):
    fitted().save_checkpoint(path)
    return path


def compared(**options):
    """Compare two programs that differ, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "in_process", lambda program, orders: run_side(program, orders, lambda _: None))
        return compare(
            lambda: (spec(), BATCHES),
            lambda: (spec(), [(torch.zeros(2, 2), BATCHES[0][1])] * 2),
            trainer={"max_epochs": 1},
            **options,
        )


def in_a_handler():
    made = trainer()
    made.on(Event.BATCH_END(once=1), lambda run: run.save_checkpoint("~/in a handler.ckpt"))
    made.fit(spec(), BATCHES)


def plotted():
    finder = LRFinder(num_training=3)
    finder.run("reference", spec(), BATCHES).plot("~/plot.png")


def studied(**options):
    given = {"n_trials": 1, "monitor": "train/loss", "framework": "reference", "trainer": {"max_epochs": 1}}
    return tune(lambda trial: spec(), BATCHES, enable_progress_bar=False, **given, **options)


def through_wandb():
    logger = WandbLogger(save_dir="~/wandb")
    logger._wandb = SimpleNamespace(init=lambda **_: SimpleNamespace(id="1", starting_step=0))
    logger.begin(0)
    assert logger.run.id == "1"


def convert(src, dst):
    convert_checkpoint(src, dst, to="safetensors")


def served():
    export_module(nn.Linear(2, 1), "~/x.onnx", example_input=torch.ones(2, 2))
    unitrain.serve("~/x.onnx", port=0, block=False).stop()


def served_from_a_checkpoint():
    fitted().serve(port=0, ckpt_path=saved(), example_input=torch.ones(2, 2)).stop()


def bundled(model="~/bundled.onnx", folder="~/bundled"):
    export_module(nn.Linear(2, 1), model, example_input=torch.ones(2, 2))
    unitrain.bundle(model, folder)


def deployed():
    bundled()
    unitrain.deploy("~/bundled", provider="local", name="x", folder="~/deployments", dry_run=True)


READS = {
    f"UnifiedTrainer.{name}(ckpt_path=)": partial(
        lambda name: getattr(trainer(max_epochs=2), name)(spec(), BATCHES, ckpt_path=saved()), name
    )
    for name in ("fit", "validate", "test", "predict")
}
PATHS = {
    **READS,
    "UnifiedTrainer.export(ckpt_path=)": lambda: fitted().export("~/x.safetensors", ckpt_path=saved()),
    "UnifiedTrainer.export(path=)": lambda: fitted().export("~/x.safetensors"),
    "export_module(path=)": lambda: export_module(nn.Linear(2, 1), "~/x.safetensors"),
    "UnifiedTrainer.save_checkpoint(path=)": saved,
    "RunContext.save_checkpoint(path=)": in_a_handler,
    "UnifiedTrainer(default_root_dir=)": lambda: fitted(default_root_dir="~/root", callbacks=[ModelCheckpoint()]),
    "TrainerConfig(default_root_dir=)": lambda: fitted(default_root_dir="~/root", callbacks=[ModelCheckpoint()]),
    "ModelCheckpoint(dirpath=)": lambda: fitted(callbacks=[ModelCheckpoint("~/kept")]),
    "PredictionWriter(folder=)": lambda: trainer(callbacks=[PredictionWriter("~/out")]).predict(spec(), BATCHES),
    "CSVLogger(save_dir=)": lambda: fitted(loggers=[CSVLogger("~/csv")]),
    "TensorBoardLogger(save_dir=)": lambda: fitted(loggers=[TensorBoardLogger("~/boards")]),
    "WandbLogger(save_dir=)": through_wandb,
    "FitResult.plot(path=)": lambda: trainer().fit(spec(), BATCHES).plot("~/plot.png"),
    "FitResult.report(path=)": lambda: trainer().fit(spec(), BATCHES).report("~/report.html"),
    "LRFinder.plot(path=)": plotted,
    "tune(storage=)": lambda: studied(storage="~/study.log", study_name="s", dirpath="~/study"),
    "tune(dirpath=)": lambda: studied(dirpath="~/study"),
    "compare(make=)": lambda: compare(saved(), saved("~/other.ckpt")),
    "compare(other=)": lambda: compare(saved(), saved("~/other.ckpt")),
    "compare(bisect=)": lambda: compared(bisect="~/tensors"),
    "Comparison.save_json(path=)": lambda: compare(saved(), saved()).save_json("~/out.json"),
    "Comparison.report(path=)": lambda: compare(saved(), saved()).report("~/out.html"),
    "TuneResult.plot(path=)": lambda: studied(dirpath="~/study").plot("~/study.png"),
    "convert_checkpoint(src=)": lambda: convert(saved(), "~/x.safetensors"),
    "convert_checkpoint(dst=)": lambda: convert(saved(), "~/x.safetensors"),
    "bundle(model=)": lambda: bundled(model="~/x.onnx"),
    "bundle(folder=)": lambda: bundled(folder="~/out"),
    "deploy(bundle=)": deployed,
    "serve(models=)": served,
    "UnifiedTrainer.serve(ckpt_path=)": served_from_a_checkpoint,
    "load_weights(path=)": lambda: load_weights(saved()),
}
GIVEN_BY_UNITRAIN = {
    "ExportReport(path=)",
    "FitResult(best_checkpoint=)",
    "FitResult(last_checkpoint=)",
    "ModelCheckpoint.continue_in(moved=)",
}


def parameters():
    """Yield the public parameters whose annotation names a path."""
    for name in unitrain.__all__:
        one = getattr(unitrain, name)
        methods = inspect.getmembers(one, inspect.isfunction) if inspect.isclass(one) else []
        calls = {f"{name}.{method}": call for method, call in methods if not method.startswith("_")}
        for label, call in {name: one, **calls}.items():
            if callable(call) and not (inspect.isclass(call) and issubclass(call, (Exception, str))):
                yield from (f"{label}({one}=)" for one in _paths(call))


def _paths(call):
    try:
        found = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return []
    return [one.name for one in found if "Path" in str(one.annotation)]


def test_all_public_parameters_that_are_paths_are_here():
    assert {*parameters()} == PATHS.keys() | GIVEN_BY_UNITRAIN


@pytest.mark.parametrize("name", PATHS)
def test_a_tilde_is_the_home_folder(name, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    PATHS[name]()
    assert list(here.iterdir()) == []
    assert list(home.iterdir())


def test_a_tilde_that_is_taken_as_it_is_would_be_seen(tmp_path, monkeypatch):
    """The negative control."""
    monkeypatch.setattr("unitrain.loggers.csv.user_path", Path)
    with pytest.raises(AssertionError):
        test_a_tilde_is_the_home_folder("CSVLogger(save_dir=)", tmp_path, monkeypatch)


@pytest.mark.parametrize("framework", BACKENDS)
def test_predictions_stay_in_one_folder(framework, tmp_path, monkeypatch):
    start, later = tmp_path / "start", tmp_path / "later"
    start.mkdir()
    later.mkdir()
    monkeypatch.chdir(start)
    writer = PredictionWriter("out")
    made = trainer(framework, callbacks=[writer])
    made.on(Event.PREDICT_BATCH_END(once=1), lambda _: os.chdir(later))
    made.predict(spec(), BATCHES)
    assert list(later.iterdir()) == []
    assert sorted(writer.paths) == sorted((start / "out").iterdir())
    assert len(writer.paths) == len(BATCHES)
    monkeypatch.chdir(start)
    made.predict(spec(), BATCHES)  # it knows its own files


def test_stores_stay_where_the_run_began(tmp_path, monkeypatch):
    start, later = tmp_path / "start", tmp_path / "later"
    start.mkdir()
    later.mkdir()
    monkeypatch.chdir(start)
    opened = []
    wandb, mlflow = WandbLogger(), MLflowLogger(tracking_uri="sqlite:///runs.db")
    wandb._wandb = SimpleNamespace(init=lambda **given: opened.append(given["dir"]) or SimpleNamespace(id="1"))
    client = SimpleNamespace(
        get_experiment_by_name=lambda _: SimpleNamespace(experiment_id="1"),
        create_run=lambda *_, **__: SimpleNamespace(info=SimpleNamespace(run_id="1")),
    )
    mlflow._mlflow = SimpleNamespace(MlflowClient=lambda tracking_uri: opened.append(tracking_uri) or client)
    for logger in (wandb, mlflow):
        logger.begin(0)
    monkeypatch.chdir(later)
    assert wandb.run.id == "1"
    mlflow._open()
    assert opened == [str(start), f"sqlite:///{start / 'runs.db'}"]
    assert mlflow.run_state()["tracking_uri"] == "sqlite:///runs.db"  # by which a checkpoint knows it
