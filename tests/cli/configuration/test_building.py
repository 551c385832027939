"""What each key of a configuration becomes."""

import pickle
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from unitrain import DDP, FSDP, EarlyStopping, LRSchedule, TrainSpec
from unitrain.cli.configuration.command_line import read_arguments
from unitrain.cli.configuration.configuration import load
from unitrain.cli.configuration.yaml_files import text_of, values_of
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.import_path import importable


@pytest.fixture
def configured(project):
    """Return the configuration of run.yaml with overrides."""

    def configure(*options):
        line = read_arguments("fit", ["--config", "run.yaml", *map(str, options)], {})
        with importable():
            return load(line.paths, line.overrides)

    return configure


@pytest.fixture
def built(configured):
    def build(*options):
        with importable():
            return configured(*options).build()

    return build


def test_a_spec_of_classes_and_a_factory(built):
    found = built().spec
    assert isinstance(found, TrainSpec)
    assert type(found.model).__name__ == "Net"
    assert isinstance(found.loss, nn.CrossEntropyLoss)
    assert isinstance(found.optimizer, partial)
    assert found.optimizer.func is torch.optim.AdamW
    assert found.optimizer.keywords["lr"] == 0.01
    assert found.optimizer.keywords["betas"] == (0.9, 0.999)
    assert isinstance(found.lr_scheduler, LRSchedule)
    assert (found.lr_scheduler.interval, found.lr_scheduler.factory.keywords["step_size"]) == ("step", 2)


def test_a_configuration_and_its_factories_can_be_pickled(configured):
    found = pickle.loads(pickle.dumps(configured()))
    assert found.text == configured().text
    with importable():
        assert pickle.loads(pickle.dumps(found.build().spec.optimizer)).func is torch.optim.AdamW


def test_objects_as_arguments(built):
    found = built("--spec.model.activation", "{class_path: torch.nn.ELU, init_args: {alpha: 0.5}}")
    assert [type(one).__name__ for one in found.spec.model.layers] == ["Linear", "ELU", "Dropout", "Linear"]
    assert found.spec.model.layers[1].alpha == 0.5


def test_classes_in_what_has_no_type(built):
    options = "{a: {class_path: torch.nn.ReLU}, b: [{class_path: torch.nn.Linear, init_args: {in_features: 2, out_features: 1}}]}"
    node = f"{{class_path: tiny.Anything, init_args: {{one: '16', name: '7', options: {options}}}, dict_kwargs: {{more: 1}}}}"
    given = built("--spec.example_input", node).spec.example_input.given
    assert (given["one"], given["name"], given["more"]) == ("16", "7", 1)
    assert isinstance(given["options"]["a"], nn.ReLU)
    assert isinstance(given["options"]["b"][0], nn.Linear)


def test_a_wrong_class_in_what_has_no_type_is_an_error(built):
    with pytest.raises(ConfigError, match=r"spec\.example_input\.init_args\.one.*torch.nn has no 'ReLUU'"):
        built("--spec.example_input", "{class_path: tiny.Anything, init_args: {one: {class_path: torch.nn.ReLUU}}}")


def test_functions_as_loss_step_metric_and_batch_size(built):
    found = built(
        *("--spec.loss", "{class_path: tiny.smooth_loss, init_args: {smoothing: 0.5}}"),
        *("--spec.training_step", "tiny.training_step", "--spec.metrics.errors", "tiny.error_rate"),
        *(
            "--spec.metrics.f",
            "{class_path: torchmetrics.classification.MulticlassF1Score, init_args: {num_classes: 3}}",
        ),
        *("--spec.batch_size", "4"),
    ).spec
    assert found.loss.keywords == {"smoothing": 0.5}
    assert found.training_step.__name__ == "training_step"
    assert found.metrics["errors"].__name__ == "error_rate"
    assert type(found.metrics["f"]).__name__ == "MulticlassF1Score"
    assert found.batch_size == 4


def test_optimizers_and_schedules_by_name(built):
    optimizers = "{a: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}, b: torch.optim.Adam}"
    schedules = "{a: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3}, frequency: 2}, b: {warmup_steps: 5}}"
    found = built("--spec.optimizer", optimizers, "--spec.lr_scheduler", schedules).spec
    assert (found.optimizer["a"].func, found.optimizer["b"].func) == (torch.optim.SGD, torch.optim.Adam)
    assert found.lr_scheduler["a"].frequency == 2
    assert found.lr_scheduler["b"] == LRSchedule(warmup_steps=5)


def test_a_list_of_schedules_and_one_that_monitors(built):
    plateau = "{class_path: torch.optim.lr_scheduler.ReduceLROnPlateau, init_args: {patience: 1}, monitor: val/loss}"
    found = built("--spec.lr_scheduler", f"[{{warmup_steps: 3}}, {plateau}]").spec.lr_scheduler
    assert [one.monitor for one in found] == [None, "val/loss"]
    assert found[1].factory.keywords["patience"] == 1


def test_strategies(built):
    assert built("--trainer.strategy", "ddp").trainer_options["strategy"] == "ddp"
    found = built("--trainer.strategy", "{class_path: unitrain.DDP, init_args: {timeout: '0:10:00'}}")
    assert found.trainer_options["strategy"] == DDP(timeout=timedelta(minutes=10))
    found = built("--trainer.strategy", "{class_path: unitrain.FSDP, init_args: {wrap: [torch.nn.Linear]}}")
    assert found.trainer_options["strategy"] == FSDP(wrap=(nn.Linear,))


def test_options_keep_their_kind(built):
    found = built(
        *("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1.0", "--trainer.devices", "[0]"),
        *("--trainer.fast_dev_run", "3", "--trainer.max_time", "00:01:00:00", "--trainer.precision", "16-mixed"),
    ).trainer_options
    assert type(found["limit_train_batches"]) is int
    assert type(found["limit_val_batches"]) is float
    assert (found["devices"], found["fast_dev_run"]) == ([0], 3)
    assert (found["max_time"], found["precision"]) == ("00:01:00:00", "16-mixed")


def test_trackers_that_nobody_named_are_not_none(built):
    assert "loggers" not in built().trainer_options
    assert built("--trainer.loggers", "[]").trainer_options["loggers"] == []
    named = built("--trainer.loggers", "[{class_path: unitrain.CSVLogger, init_args: {save_dir: logs}}]")
    assert type(named.trainer_options["loggers"][0]).__name__ == "CSVLogger"


def test_classes_in_native_arguments(built):
    native = "{ddp: {find_unused_parameters: true}, reference: {hook: {class_path: torch.nn.ReLU}}}"
    found = built("--trainer.native", native).trainer_options["native"]
    assert found["ddp"] == {"find_unused_parameters": True}
    assert isinstance(found["reference"]["hook"], nn.ReLU)


def test_a_function_that_makes_the_spec(built, configured):
    only = "{class_path: tiny.make_spec, init_args: {width: 6}}"
    text = configured().text
    assert "tiny.Net" in text
    (values := values_of(text))["spec"] = values_of(only)
    Path("whole.yaml").write_text(text_of(values))
    with importable():
        found = load(["whole.yaml"]).build()
    assert isinstance(found.spec, TrainSpec)
    assert found.spec.model.layers[0].out_features == 6


def test_callbacks_of_frameworks_are_made_too(built):
    found = built(
        "--trainer.callbacks+=pytorch_lightning.callbacks.GradientAccumulationScheduler",
        "--trainer.callbacks.scheduling",
        "{0: 2}",
    )
    own, native = found.trainer_options["callbacks"]
    assert isinstance(own, EarlyStopping)
    assert native.scheduling == {0: 2}


def test_an_error_of_the_spec_names_its_key(built):
    with pytest.raises(UnitrainError, match=r"^--spec\.automatic_optimization: TrainSpec\(automatic_optimization=\)"):
        built("--spec.automatic_optimization", "maybe")
