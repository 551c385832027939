"""Configuration files of LightningCLI, run by `unitrain fit` and its like, beside the untouched LightningCLI."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from pytorch_lightning.cli import LightningCLI

from tests.bridges import lightning_project
from tests.bridges.lightning_subject import generators, shown
from tests.bridges.written import everything
from unitrain import ConfigError, UnitrainError
from unitrain.cli.project.framework_files import framework_run
from unitrain.reports.run.record import read_record
from unitrain_bridges.lightning.bridge import LightningBridge

pytestmark = pytest.mark.filterwarnings("ignore")

HERE = lightning_project.__name__
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "log_every_n_steps": 2}
LISTENING = {"class_path": f"{HERE}.listening"}
CSV = {"class_path": "pytorch_lightning.loggers.CSVLogger", "init_args": {"save_dir": "."}}
FULL = {
    "seed_everything": 3,
    "trainer": {
        **QUIET,
        "max_epochs": 2,
        "logger": CSV,
        "callbacks": [
            LISTENING,
            {"class_path": "EarlyStopping", "init_args": {"monitor": "val_loss", "patience": 0, "min_delta": 1.0}},
            {"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"},
        ],
        "precision": None,
        "limit_train_batches": None,
        "gradient_clip_val": 0.1,
        "num_sanity_val_steps": 1,
        "reload_dataloaders_every_n_epochs": 1,
        "inference_mode": False,
    },
    "model": {"class_path": f"{HERE}.Net", "init_args": {"how": "two lists"}},
    "data": {"class_path": f"{HERE}.Data", "init_args": {"batch_size": 3}},
    "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.03}},
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}},
    "ckpt_path": None,
    "weights_only": None,
}
PLAIN = {
    "seed_everything": 3,
    "trainer": {**QUIET, "max_epochs": 1, "callbacks": LISTENING, "logger": CSV},
    "model": {"class_path": f"{HERE}.Net"},
    "data": {"class_path": f"{HERE}.Data"},
}
OF_A_SCRIPT = {**PLAIN, "model": {"how": "list"}, "data": {"count": 8, "batch_size": 4}}
NAMED = ("--model", f"{HERE}.Net", f"--data={HERE}.Data")
SECTIONS = {"fit": PLAIN, "validate": {**PLAIN, "trainer": {**PLAIN["trainer"], "limit_val_batches": 1}}}


def case(*contents, stage="fit", arguments=(), classes=(), given=None):
    """Return files, the arguments of both, the classes that a script would name, and the arguments of unitrain's."""
    return SimpleNamespace(
        stage=stage, contents=contents, arguments=arguments, classes=classes, given=given or arguments
    )


CASES = {
    "all keys": case(FULL),
    "overrides": case(FULL, arguments=("--trainer.max_epochs=1", "--optimizer.lr", "0.5", "--model.width=4")),
    "two files": case(PLAIN, {"trainer": {"max_epochs": 2}, "model": {"init_args": {"how": "dict"}}}),
    "appended": case(PLAIN, arguments=("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss")),
    "classes of a script": case(OF_A_SCRIPT, classes=(lightning_project.Net, lightning_project.Data), given=NAMED),
    "a function of a script": case(
        {**PLAIN, "model": {"width": 4}},
        classes=(lightning_project.net,),
        given=("--model", f"{HERE}.net"),
    ),
    "sections": case(SECTIONS),
    "a section to validate": case(SECTIONS, stage="validate"),
    "loaders of the module": case({**PLAIN, "model": f"{HERE}.OwnData", "data": None}),
    "test": case(PLAIN, stage="test", arguments=("--data.batch_size=2",)),
    "predict": case(PLAIN, stage="predict"),
    "fast_dev_run": case(FULL, arguments=("--trainer.fast_dev_run=2",)),
}
FAST = {"all keys", "classes of a script"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["unitrain"])


def written(contents, folder):
    """Write the files, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.yaml" for index, _ in enumerate(contents)]
    for path, one in zip(paths, contents, strict=True):
        path.write_text(yaml.safe_dump(one))
    return [str(path) for path in paths]


def told(work, folder):
    """Run ``work`` in a folder, and return what it did: calls, weights, files and random states."""
    lightning_project.LOG.clear()
    lightning_project.MADE.clear()
    folder.mkdir()
    torch.manual_seed(5)
    with contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = work()
    (module,) = lightning_project.MADE
    return SimpleNamespace(
        heard=[repr(one).replace(str(folder), ".") for one in lightning_project.LOG],
        weights=shown(dict(module.state_dict())),
        files={name: one for name, one in everything(folder).items() if not name.endswith("run.json")},
        end=generators(),
        result=result,
    )


def by_lightning(one, paths, folder):
    configs = [text for path in paths for text in ("--config", path)]
    sectioned = any(one.stage in contents for contents in one.contents)
    line = [*configs, one.stage] if sectioned else [one.stage, *configs]
    return told(lambda: LightningCLI(*one.classes, args=[*line, *one.arguments]), folder)


def by_unitrain(one, paths, folder, framework):
    return told(lambda: framework_run(one.stage, paths, one.given, framework).run(), folder)


def differences(wanted, got):
    return [name for name in ("heard", "weights", "files", "end") if getattr(wanted, name) != getattr(got, name)]


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in CASES])
def test_it_is_the_same_as_by_lightning(name, tmp_path, capsys):
    one = CASES[name]
    paths = written(one.contents, tmp_path / "files")
    wanted = by_lightning(one, paths, tmp_path / "untouched")
    assert wanted.heard
    found = {where: by_unitrain(one, paths, tmp_path / where, where) for where in ("lightning", "ignite", "reference")}
    assert {where: differences(wanted, got) for where, got in found.items()} == {where: [] for where in found}
    if one.stage == "fit":
        assert {where: got.result.framework for where, got in found.items()} == {where: where for where in found}
    if one.stage == "predict":
        assert all(torch.equal(torch.cat(got.result), torch.cat(found["lightning"].result)) for got in found.values())


def test_a_difference_is_noticed(tmp_path, capsys):
    one = CASES["classes of a script"]
    wanted = by_lightning(one, written(one.contents, tmp_path / "files"), tmp_path / "untouched")
    other = {**OF_A_SCRIPT, "data": {"count": 12, "batch_size": 4}}
    got = by_unitrain(one, written([other], tmp_path / "others"), tmp_path / "other", "ignite")
    assert {"heard", "weights", "files"} <= set(differences(wanted, got))


# --- the folder of a run ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a file in a folder; and fit once, so that there is a run."""
    monkeypatch.chdir(tmp_path)
    (path,) = written([PLAIN], tmp_path / "files")

    def go(stage, config=path, *arguments, framework="ignite"):
        return framework_run(stage, [str(config)], arguments, framework).run()

    go("fit")
    return go


FIRST = "lightning_logs/version_0"


def test_the_folder_has_all_of_a_run(run, tmp_path):
    folder = tmp_path / FIRST
    assert {one.name for one in folder.iterdir()} >= {"config.yaml", "metrics.csv", "checkpoints", "run.json"}
    record = read_record(folder)
    assert (record.status, record.framework, record.seed) == ("finished", "ignite", 3)
    assert record.config == (folder / "config.yaml").read_text()
    assert record.metrics["val_loss"] == record.history[-1]["val_loss"]


def test_its_configuration_runs_again(run, tmp_path):
    run("fit", f"{FIRST}/config.yaml", framework="reference")
    first, second = (read_record(tmp_path / f"lightning_logs/version_{number}") for number in (0, 1))
    assert second.framework == "reference"
    assert (second.metrics, second.history, second.config) == (first.metrics, first.history, first.config)


@pytest.mark.parametrize("word", ["best", "last"])
def test_its_checkpoints_are_found(word, run):
    (file,) = Path(FIRST).rglob("*.ckpt")
    wanted = run("validate", f"{FIRST}/config.yaml", f"--ckpt_path={file}")
    assert run("validate", f"{FIRST}/config.yaml", "--ckpt_path", word) == wanted
    assert run("validate", f"{FIRST}/config.yaml") != wanted


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_the_record_says_which_checkpoint_was_resumed(framework, run, tmp_path):
    (file,) = Path(FIRST).rglob("*.ckpt")
    longer = (f"{FIRST}/config.yaml", "--trainer.max_epochs=3")
    run("fit", *longer, f"--ckpt_path={file}", framework=framework)
    assert read_record(tmp_path / FIRST).resumed_from is None
    assert read_record("lightning_logs/version_1").resumed_from == str(file)


def test_a_drawn_seed_is_kept(run, tmp_path):
    run("fit", tmp_path / "files/0.yaml", "--seed_everything=true")
    record = read_record("lightning_logs/version_1")
    assert isinstance(record.seed, int)
    assert f"seed_everything: {record.seed}\n" in record.config


def test_an_error_in_training_is_recorded(run, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr(lightning_project.Net, "training_step", broken)
    with pytest.raises(ZeroDivisionError):
        run("fit")
    record = read_record("lightning_logs/version_1")
    assert (record.status, record.error["type"]) == ("failed", "ZeroDivisionError")


def test_fast_dev_run_keeps_no_record(run, tmp_path):
    run("fit", tmp_path / "files/0.yaml", "--trainer.fast_dev_run=true")
    assert not (tmp_path / "lightning_logs/version_1").exists()
    assert not (tmp_path / "run.json").exists()


def test_print_config_runs_nothing(run, capsys, tmp_path):
    assert run("fit", tmp_path / "files/0.yaml", "--print_config") is None
    printed = yaml.safe_load(capsys.readouterr().out.partition("# pytorch_lightning")[2].partition("\n")[2])
    assert printed["trainer"]["max_epochs"] == 1
    assert not (tmp_path / "lightning_logs/version_1").exists()


# --- errors -----------------------------------------------------------------------------------------------------------

FILE = "0.yaml"
TRAINER = {**QUIET, "max_epochs": 1, "logger": CSV}
REFUSED = {
    "unknown key": ({**PLAIN, "mine": 1}, (), "0.yaml: unknown key 'mine'", "unitrain run SCRIPT"),
    "misspelt key": ({**PLAIN, "modle": 1}, (), "unknown key 'modle'", "did you mean 'model'?"),
    "misspelt trainer key": ({**PLAIN, "trainer": {"max_epoch": 1}}, (), "does not take max_epoch", "'max_epochs'"),
    "old trainer key": ({**PLAIN, "trainer": {"gpus": 2}}, (), "does not take gpus", "accelerator='gpu', devices=2"),
    "abbreviation": (PLAIN, ("--trainer.max_epoch=2",), "unknown option --trainer.max_epoch", "'max_epochs'"),
    "unknown option": (PLAIN, ("--modle.width", "3"), "unknown option --modle.width", "'model'"),
    "wrong type": (PLAIN, ("--trainer.max_epochs=two",), "trainer.max_epochs: expected int; got two", "--print_config"),
    "unknown class": (
        {**PLAIN, "model": {"class_path": f"{HERE}.Ne"}},
        (),
        f"cannot import {HERE}.Ne",
        "as in `import`",
    ),
    "wrong base": ({**PLAIN, "model": {"class_path": "torch.nn.ReLU"}}, (), "subclass of LightningModule", "--print"),
    "unknown argument": (PLAIN, ("--model.widht=3",), "Option 'widht' is not accepted", "--print_config"),
    "unknown callback": (PLAIN, ("--trainer.callbacks+=EarlyStoping",), "EarlyStoping", "--print_config"),
    "missing argument": (PLAIN, ("--trainer.callbacks+=EarlyStopping",), "are required: monitor", "--print_config"),
    "broken class": ({**PLAIN, "model": f"{HERE}.Failing"}, (), "RuntimeError: it is broken (", "--print_config"),
    "class of a script": ({**PLAIN, "model": "__main__.Net"}, (), "a class of the script", "unitrain run SCRIPT"),
    "no class": (OF_A_SCRIPT, (), "model has no class_path", "--model mypackage.MyClass"),
    "no class of data": (OF_A_SCRIPT, NAMED[:2], "data has no class_path", "--data mypackage.MyClass"),
    "no checkpoint": (PLAIN, ("--ckpt_path", "none.ckpt"), "there is no file none.ckpt", "--ckpt_path FILE"),
    "no best": (PLAIN, ("--ckpt_path=best",), "not in the folder of a run", "--ckpt_path FILE"),
    "two processes": (PLAIN, ("--trainer.devices=2", "--trainer.strategy=ddp"), "'ddp'", 'framework="lightning"'),
    "lightning only": (PLAIN, ("--trainer.model_registry=x",), "model_registry", "upload the file"),
    "clash": (PLAIN, ("--trainer.barebones=true",), "barebones", "--print_config"),
    "no data": ({**PLAIN, "data": None}, (), "fit needs train_dataloader, which Net lacks", "--data mypackage"),
    "other section": (
        {"test": PLAIN},
        (),
        "0.yaml has sections for test, and none for 'fit'",
        "unitrain test --config",
    ),
    "beside a section": ({"fit": PLAIN, "trainer": {}}, (), "'trainer' is beside the section 'fit'", "sections"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_is_written(name, tmp_path, monkeypatch, capsys):
    contents, arguments, message, hint = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    paths = [str(path) for path in map(tmp_path.__truediv__, [FILE])]
    (tmp_path / FILE).write_text(yaml.safe_dump(contents))
    with pytest.raises(UnitrainError) as caught:
        framework_run("fit", [FILE], arguments, "ignite").run()
    text, _, told_hint = str(caught.value).partition("\nHint: ")
    assert message in text
    assert hint in told_hint
    assert [str(one) for one in tmp_path.iterdir()] == paths
    assert not capsys.readouterr().out.count("usage:")


def test_a_run_is_not_overwritten(run, tmp_path, capsys):
    quiet = ("--trainer.logger=false", "--trainer.enable_checkpointing=false")
    run("fit", tmp_path / "files/0.yaml", *quiet)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"config.yaml is of another run, and is not overwritten"):
        run("fit", tmp_path / "files/0.yaml", *quiet)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_sections_come_first(tmp_path):
    paths = written([PLAIN, SECTIONS], tmp_path)
    with pytest.raises(ConfigError, match="must come before files without"):
        framework_run("fit", paths, (), "ignite").run()


@pytest.mark.parametrize("text", ["spec: {}", "framework: ignite\nmodel: {}", "trainer: {}"])
def test_other_files_are_left_to_unitrain(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    assert framework_run("fit", [str(tmp_path / FILE)], (), None) is None


UNREADABLE = ["", "- 1", "{", "\0", "x: !!int abc", "[" * 3000, "a: b: c", "model: {}\nmodel: {}", None]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_unreadable_file_is_refused(text, tmp_path):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(ConfigError, match=FILE):
        framework_run("fit", [str(tmp_path / FILE)], (), None)


def test_the_default_is_the_home_of_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = written([PLAIN], tmp_path)
    result = framework_run("fit", paths, ("--trainer.fast_dev_run=true",), None).run()
    assert result.framework == LightningBridge.home
