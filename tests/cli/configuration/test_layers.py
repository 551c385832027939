"""How files and options are merged, and what YAML means."""

import math

import pytest
import yaml

from unitrain.cli.configuration.command_line import read_arguments
from unitrain.cli.configuration.layers import Layers
from unitrain.cli.configuration.yaml_files import parsed, read, text_of, values_of
from unitrain.errors import ConfigError

BASE = """
trainer: {max_epochs: 5, callbacks: [{class_path: unitrain.Timer, init_args: {duration: "00:01:00:00"}}]}
spec:
  model: {class_path: m.Net, init_args: {width: 64, act: {class_path: torch.nn.ReLU}}}
  loss: torch.nn.MSELoss
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1e-3, weight_decay: .1}}
  lr_scheduler: {class_path: m.Steps, interval: epoch}
  metrics: {acc: {name: accuracy, num_classes: 3}}
"""


@pytest.fixture
def merged(tmp_path, monkeypatch):
    """Merge BASE, further files and options."""
    monkeypatch.chdir(tmp_path)

    def merge(*options, files=()):
        for index, text in enumerate((BASE, *files)):
            (tmp_path / f"{index}.yaml").write_text(text)
        paths = [part for index in range(len(files) + 1) for part in ("--config", f"{index}.yaml")]
        line = read_arguments("fit", [*paths, *options], {})
        layers = Layers()
        for path in line.paths:
            layers.add(read(path))
        for override in line.overrides:
            layers.override(override)
        return layers.merged()

    return merge


def test_a_later_file_and_then_an_option_win(merged):
    found = merged("--trainer.max_epochs", "9", files=["trainer: {max_epochs: 7, devices: 2}\nseed: 1"])
    assert found.tree["trainer"]["max_epochs"] == 9
    assert found.tree["trainer"]["devices"] == 2
    assert [str(found.places.at(key)) for key in (("trainer", "max_epochs"), ("trainer", "devices"), ("seed",))] == [
        "--trainer.max_epochs",
        "1.yaml:1",
        "1.yaml:2",
    ]


@pytest.mark.parametrize("key", ["spec.optimizer.lr", "spec.optimizer.init_args.lr"])
def test_an_argument_needs_no_init_args(merged, key):
    found = merged(f"--{key}", "0.5").tree["spec"]["optimizer"]
    assert found == {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.5, "weight_decay": 0.1}}


def test_arguments_of_a_bare_name_a_nested_class_and_a_schedule(merged):
    found = merged("--spec.loss.reduction=sum", "--spec.model.act.inplace", "true", "--spec.lr_scheduler.interval=step")
    assert found.tree["spec"]["loss"] == {"class_path": "torch.nn.MSELoss", "init_args": {"reduction": "sum"}}
    assert found.tree["spec"]["model"]["init_args"]["act"]["init_args"] == {"inplace": True}
    assert found.tree["spec"]["lr_scheduler"] == {"class_path": "m.Steps", "interval": "step"}


def test_lists_are_replaced_appended_to_and_indexed(merged):
    assert merged("--trainer.callbacks", "[]").tree["trainer"]["callbacks"] == []
    two = merged("--trainer.callbacks+=m.Own", "--trainer.callbacks.size", "3", "--trainer.callbacks.0.duration", "x")
    assert two.tree["trainer"]["callbacks"] == [
        {"class_path": "unitrain.Timer", "init_args": {"duration": "x"}},
        {"class_path": "m.Own", "init_args": {"size": 3}},
    ]
    assert str(two.places.at(("trainer", "callbacks", 0, "class_path"))) == "0.yaml:2"


def test_another_class_starts_without_arguments_and_says_so(merged):
    found = merged("--spec.optimizer", "torch.optim.SGD", "--spec.optimizer.lr", "0.1")
    assert found.tree["spec"]["optimizer"] == {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    assert found.notes == ("spec.optimizer: torch.optim.SGD replaces torch.optim.AdamW; dropped: weight_decay=0.1.",)
    whole = merged(files=["spec: {optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1, weight_decay: 0.2}}}"])
    assert whole.tree["spec"]["optimizer"]["init_args"] == {"lr": 0.1, "weight_decay": 0.2}
    assert whole.notes == ()


def test_the_same_class_keeps_its_arguments(merged):
    found = merged("--spec.optimizer", "torch.optim.AdamW", "--spec.optimizer.lr", "0.1")
    assert found.tree["spec"]["optimizer"]["init_args"] == {"lr": 0.1, "weight_decay": 0.1}
    assert found.notes == ()


@pytest.mark.parametrize(
    "options",
    [
        ["--spec.optimizer", "torch.optim.SGD"],
        ["--spec.optimizer.class_path", "torch.optim.SGD"],
        ["--spec.optimizer", "{class_path: torch.optim.SGD}"],
        ["--spec.optimizer", "torch.optim.SGD", "--spec.optimizer", "torch.optim.AdamW"],
    ],
    ids=["name", "key", "mapping", "there-and-back"],
)
def test_the_name_of_another_class_alone_is_an_error(merged, options):
    with pytest.raises(ConfigError, match=r"would be lost: lr=0\.001, weight_decay=0\.1"):
        merged(*options)


def test_several_optimizers_replace_one(merged):
    several = "{gen: {class_path: torch.optim.SGD}, disc: {class_path: torch.optim.SGD}}"
    found = merged("--spec.optimizer", several)
    assert found.tree["spec"]["optimizer"].keys() == {"gen", "disc"}
    assert found.notes == (
        "spec.optimizer: gen, disc replaces torch.optim.AdamW; dropped: lr=0.001, weight_decay=0.1.",
    )
    assert merged("--spec.metrics.acc", "{class_path: m.Accuracy}").tree["spec"]["metrics"]["acc"] == {
        "class_path": "m.Accuracy"
    }


# --- YAML -------------------------------------------------------------------------------------------------------------

SCALARS = {
    "1e-3": 0.001,
    "1E5": 100000.0,
    ".5": 0.5,
    "1.0": 1.0,
    "1": 1,
    "-1": -1,
    "1_000": 1000,
    "010": 10,
    "0x10": 16,
    "00:01:00:00": "00:01:00:00",
    "10:00:00:00": "10:00:00:00",
    "on": "on",
    "yes": "yes",
    "true": True,
    "null": None,
    "~": None,
    ".inf": math.inf,
    "16-mixed": "16-mixed",
    "2024-01-01": "2024-01-01",
    "'16'": "16",
    "val/loss": "val/loss",
    "*x": "*x",
    "a: b": "a: b",
    "[0, 1e-3]": [0, 0.001],
    "{a: {b: 1}}": {"a": {"b": 1}},
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_value_is_what_yaml_1_2_says(text):
    found = parsed(text, "--trainer.x")
    assert found == SCALARS[text]
    assert type(found) is type(SCALARS[text])


def test_what_is_written_reads_back_for_old_readers_too():
    values = [*SCALARS, *SCALARS.values(), "", " x", "#", "é", "a\nb\n", 1e-05, 1e22, "NO", "<<", "="]
    for found in (values_of(text_of(values)), yaml.safe_load(text_of(values))):
        assert found == values
        assert [type(one) for one in found] == [type(one) for one in values]


def test_anchors_and_merge_keys_are_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("trainer: &t {max_epochs: 1, devices: 1}\nspec: {<<: *t, devices: 2}\n")
    assert read(path).values["spec"] == {"max_epochs": 1, "devices": 2}


def test_an_alias_is_a_copy(merged):
    file = "spec: {optimizer: {a: &a {class_path: torch.optim.SGD, init_args: {lr: 0.1}}, b: *a}}"
    found = merged("--spec.optimizer.a.lr", "0.5", files=[file]).tree["spec"]["optimizer"]
    assert (found["a"]["init_args"]["lr"], found["b"]["init_args"]["lr"]) == (0.5, 0.1)
