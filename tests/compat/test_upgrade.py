"""``upgrade``: modules against what the real Lightning 1.9.5 made of them, configs, and files of old releases."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import lightning.pytorch as monorepo
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from tests.compat.modules_of_1 import EPOCHS, data, facts, loader, modules
from unitrain import CheckpointError, ConfigError, TrainSpec, UnifiedTrainer
from unitrain.compat import upgrade
from unitrain.compat.trainer_arguments import OLD, today
from unitrain.config import TrainerConfig

HERE = Path(__file__).parent
REACHED = json.loads((HERE / "reached_by_1.9.5.json").read_text())["modules"]
GOLDEN = HERE.parent / "checkpoint" / "golden"
BASES = {"pytorch_lightning": pl.LightningModule, "lightning": monorepo.LightningModule}
QUIET = {"lightning": {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def run(framework, module):
    """Return what ``module`` reaches."""
    trainer = UnifiedTrainer(
        framework, max_epochs=EPOCHS, gradient_clip_val=0.1, enable_progress_bar=False, accelerator="cpu", native=QUIET
    )
    metrics = trainer.fit(module, *data(module)).metrics
    return facts(module, {**metrics, **trainer.test(module, loader(15), verbose=False)})


@pytest.mark.parametrize("package", BASES)
@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("name", REACHED)
def test_a_module_of_1_reaches_what_it_reached_there(name, framework, package):
    made = modules(BASES[package])[name]()
    module = upgrade(made, "1.x")
    assert module is made
    assert isinstance(module, BASES[package])
    found, wanted = run(framework, module), REACHED[name]
    assert found["told"] == wanted["told"]
    assert found["weights"] == wanted["weights"]  # of the same bits: each float32 is a double of its own
    assert found["metrics"].items() >= wanted["metrics"].items()


def test_a_class_is_upgraded_and_stays_what_it_was():
    old = modules(pl.LightningModule)["Plain"]
    new = upgrade(old, "1.x")
    assert new is not old
    assert issubclass(new, old)
    assert (new.__name__, new.__qualname__, new.__module__) == (old.__name__, old.__qualname__, old.__module__)
    assert hasattr(old, "training_epoch_end")
    assert not hasattr(new(), "training_epoch_end")
    assert run("lightning", new())["weights"] == REACHED["Plain"]["weights"]


def test_without_the_upgrade_today_s_lightning_refuses_the_module():
    with pytest.raises(NotImplementedError, match="training_epoch_end"):
        run("lightning", modules(pl.LightningModule)["Plain"]())


def test_hooks_of_each_stage_are_called_around_those_of_the_stages():
    calls = []

    class Old(modules(pl.LightningModule)["Plain"]):
        def on_epoch_start(self):
            calls.append("first")

        def on_epoch_end(self):
            calls.append("last")

        def on_train_epoch_start(self):
            calls.append("start")

        def on_pretrain_routine_start(self):
            calls.append("pretrain")

    module = upgrade(Old(), "1.x")
    trainer = UnifiedTrainer("lightning", max_epochs=1, enable_progress_bar=False, accelerator="cpu", native=QUIET)
    trainer.fit(module, loader())
    assert calls == ["pretrain", "first", "start", "last"]


HOOKS = {
    "on_train_batch_start": lambda self, batch, batch_idx, dataloader_idx: self.told.append(dataloader_idx),
    "training_epoch_end": lambda self, outputs: self.told.append(len(outputs)),
    "validation_epoch_end": lambda self, outputs: self.told.append(len(outputs)),
}


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize(
    ("hook", "told"),
    [("on_train_batch_start", [0, 0, 0, 0]), ("training_epoch_end", [4]), ("validation_epoch_end", [4])],
)
def test_one_hook_of_1_alone_is_enough(hook, told, framework):
    class Old(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.told = nn.Linear(3, 2), []

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        validation_step = training_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    setattr(Old, hook, HOOKS[hook])
    module = upgrade(Old(), "1.x")
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_progress_bar": False, "accelerator": "cpu"}
    UnifiedTrainer(framework, native=QUIET, **options).fit(module, loader(), loader())
    assert module.told == told


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("training_step", "self, batch, batch_idx, optimizer_idx", "automatic_optimization = False"),
        ("tbptt_split_batch", "self, batch, split_size", "split the batch"),
        ("on_keyboard_interrupt", "self", "rewrite it"),
    ],
)
def test_what_has_no_counterpart_is_refused_and_the_module_left_alone(name, parameters, said):
    space = {}
    exec(f"def {name}({parameters}): pass", space)
    module = type("Old", (modules(pl.LightningModule)["Plain"],), {name: space[name]})()
    kind = type(module)
    with pytest.raises(ConfigError, match=rf"Old\.{name}[\s\S]*{said}"):
        upgrade(module, "1.x")
    assert type(module) is kind


def test_a_module_of_2_is_returned_as_it_is_and_one_of_1_is_told_of():
    class New(pl.LightningModule):
        def training_step(self, batch, batch_idx):
            return None

    module = New()
    assert upgrade(module, "2.x") is module
    assert upgrade(New, "1.x") is New  # nothing to do
    with pytest.raises(ConfigError, match=r'Plain has training_epoch_end, .*removed[\s\S]*"1\.x"'):
        upgrade(modules(pl.LightningModule)["Plain"], "2.x")


def test_where_1_itself_is_installed_its_module_stays_as_it_is():
    from unitrain_bridges.lightning.upgrading import upgraded

    base = type("LightningModule", (nn.Module,), {"training_epoch_end": lambda self, outputs: None})
    module = type("Old", (base,), {})()
    assert type(upgraded(module)) is type(module) is upgraded(type(module))


def test_the_version_that_is_meant_is_in_the_hint():
    for given, hint in (("2.4", '"2.x"'), (2, '"2.x"'), ("1.9.5", '"1.x"'), ("next", '"1.x"')):
        with pytest.raises(ConfigError) as refused:
            upgrade({}, given)
        assert refused.value.hint == hint


@pytest.mark.parametrize("version", ["3.x", "1", "", None, 1.9])
def test_another_version_is_a_value_error_that_names_those_there_are(version):
    with pytest.raises(ValueError, match=r"is not supported; accepted are '1\.x', '2\.x'"):
        upgrade({}, version)


@pytest.mark.parametrize("given", [3, None, nn.Linear(1, 1), nn.Linear])
def test_what_is_none_of_the_three_is_refused(given):
    with pytest.raises(ConfigError, match="a LightningModule, a dict of Trainer arguments or a checkpoint's path"):
        upgrade(given, "1.x")


# --- configs ----------------------------------------------------------------------------------------------------------

CONFIGS = [
    ({"gpus": 2, "accelerator": "ddp"}, {"accelerator": "gpu", "devices": 2, "strategy": "ddp"}),
    ({"gpus": None, "max_nb_epochs": 4}, {"accelerator": "cpu", "max_epochs": 4}),
    ({"gpus": "0,3"}, {"accelerator": "gpu", "devices": [0, 3]}),
    ({"num_processes": 2, "distributed_backend": "ddp_cpu"}, {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}),
    ({"use_amp": True, "amp_backend": "native"}, {"precision": "16-mixed"}),
    ({"train_percent_check": 0.5, "row_log_interval": 5}, {"limit_train_batches": 0.5, "log_every_n_steps": 5}),
    ({"precision": 16, "max_epochs": 3}, {"precision": 16, "max_epochs": 3}),
    (Namespace(progress_bar_refresh_rate=0), {"enable_progress_bar": False}),
]


@pytest.mark.parametrize(("given", "wanted"), CONFIGS)
@pytest.mark.parametrize("version", ["1.x", "2.x"])
def test_a_config_becomes_options(given, wanted, version):
    assert upgrade(given, version) == wanted
    TrainerConfig(**upgrade(given, version))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auto_lr_find": True}, r"auto_lr_find=True[\s\S]*LRFinder"),
        ({"resume_from_checkpoint": "a.ckpt"}, r"resume_from_checkpoint[\s\S]*ckpt_path='a.ckpt'"),
        ({"strategy": "dp"}, r'strategy=\'dp\'[\s\S]*strategy="ddp"'),
        ({"gpus": 1, "accelerator": "cpu"}, "accelerator"),
        ({"gpuz": 1}, "unknown argument 'gpuz'"),
        ({"max_nb_epochs": "many"}, "max_epochs must be"),
    ],
)
def test_a_config_without_a_counterpart_is_refused_by_name(given, said):
    with pytest.raises(ConfigError, match=said):
        upgrade(given, "1.x")


@pytest.mark.filterwarnings("default::UserWarning")
def test_what_is_left_out_of_a_config_is_told():
    with pytest.warns(UserWarning, match=r"dropped weights_summary='top' \(it only changed the display\)"):
        assert upgrade({"weights_summary": "top", "max_epochs": 2}, "1.x") == {"max_epochs": 2}


def test_the_codemod_and_the_table_know_the_same_names():
    from unitrain_lightning.fixers.resume_argument import RESUME
    from unitrain_lightning.fixers.trainer_arguments import OLD_NAMES

    assert RESUME.name == "lightning-resume"
    others = {"logger", "enable_checkpointing", "enable_model_summary", "plugins"}
    assert {*OLD} == OLD_NAMES | others | {"resume_from_checkpoint"}
    assert not {*OLD} & {*TrainerConfig.__dataclass_fields__}
    assert today("accelerator", "cpu") is today("strategy", "ddp") is today("max_epochs", 3) is None


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [("lightning-1.2.10.ckpt", "1.x"), ("lightning-1.9.5.ckpt", "1.x"), ("lightning-2.0.9.ckpt", "2.x")],
)
def test_a_file_is_written_anew_and_the_old_one_stays(name, version, tmp_path):
    source = tmp_path / name
    source.write_bytes((GOLDEN / name).read_bytes())
    written = upgrade(str(source), version)
    assert written == tmp_path / f"{source.stem}.upgraded.ckpt"
    assert source.read_bytes() == (GOLDEN / name).read_bytes()
    new, old = (torch.load(one, weights_only=False) for one in (written, source))
    assert new["pytorch-lightning_version"] == pl.__version__
    assert all(torch.equal(new["state_dict"][key], value) for key, value in old["state_dict"].items())
    assert "fit_loop" in new["loops"]
    with pytest.raises(CheckpointError, match=r"upgraded.* already exists"):
        upgrade(source, version)
    assert upgrade(source, version, to=tmp_path / "other.ckpt") == tmp_path / "other.ckpt"


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("lightning-1.9.5.ckpt", "2.x", r'written by Lightning 1\.9\.5[\s\S]*upgrade\(path, "1\.x"\)'),
        ("lightning-2.4.0.ckpt", "1.x", r'written by Lightning 2\.4\.0[\s\S]*upgrade\(path, "2\.x"\)'),
        ("ignite-0.5.2.pt", "1.x", "is not a Lightning file, but 'ignite'"),
        ("none.ckpt", "1.x", "none.ckpt"),
    ],
)
def test_a_file_of_something_else_is_refused_and_nothing_written(name, version, said, tmp_path):
    with pytest.raises(CheckpointError, match=said):
        upgrade(GOLDEN / name, version, to=tmp_path / "new.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_place_is_for_a_checkpoint_alone():
    with pytest.raises(ConfigError, match="only applies to checkpoints"):
        upgrade({}, "1.x", to="x.ckpt")


def test_a_spec_is_no_module_of_1():
    spec = TrainSpec(model=nn.Linear(1, 1), loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    with pytest.raises(ConfigError, match="got a TrainSpec"):
        upgrade(spec, "1.x")
