"""What was written for older releases is refused with what to write today, before anything runs."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, ConfigError, MLflowLogger, SpecError, TrainerConfig, UnifiedTrainer, metric
from unitrain.checkpoint.convert import safe_reading as foreign
from unitrain.compat import mlflow as mlflow_compat
from unitrain.compat import torch as torch_compat
from unitrain.compat.instantiator import refuse_instantiator
from unitrain.compat.trainer_arguments import OLD

TRAINER = [
    ({"gpus": 2}, "accelerator='gpu', devices=2"),
    ({"gpus": 0}, "accelerator='cpu'"),
    ({"gpus": "0,1"}, "accelerator='gpu', devices=[0, 1]"),
    ({"tpu_cores": 8}, "unitrain trains on CPUs, GPUs and MPS."),
    ({"num_processes": 2}, "accelerator='cpu', devices=2"),
    ({"auto_lr_find": True}, "LRFinder().run(framework, spec, loader).suggestion()"),
    ({"resume_from_checkpoint": "a.ckpt"}, "trainer.fit(..., ckpt_path='a.ckpt')"),
    ({"accelerator": "ddp"}, "strategy='ddp'"),
    ({"accelerator": "ddp_cpu"}, "accelerator='cpu', strategy='ddp'"),
    ({"strategy": "dp"}, 'strategy="ddp", with a batch size for one device: dp was removed in 2.0.'),
    ({"progress_bar_refresh_rate": 20}, "remove it: it only changed the display."),
    ({"progress_bar_refresh_rate": 0}, "enable_progress_bar=False"),
    ({"checkpoint_callback": True}, 'callbacks=[ModelCheckpoint("checkpoints")]'),
    ({"flush_logs_every_n_steps": 5}, "remove it: loggers flush automatically."),
    ({"logger": True}, 'loggers=[CSVLogger("runs")]'),
    ({"max_nb_epochs": 3}, "max_epochs=3"),
    ({"gpus": "a,b"}, "accelerator='gpu', devices=[0, 1]: their indices."),
    (
        {"profiler": "advanced"},
        """profiler="simple"; one of Lightning's: native={"lightning": {"profiler": ...}}, for a run on Lightning.""",
    ),
    ({"plugins": "x"}, """native={"lightning": {"plugins": 'x'}}, for a run on Lightning."""),
    ({"terminate_on_nan": True}, "callbacks=[TerminateOnNaN()]"),
]


@pytest.mark.parametrize(("given", "hint"), TRAINER)
@pytest.mark.parametrize(
    "make",
    [lambda given: UnifiedTrainer("reference", **given), lambda given: TrainerConfig(**given)],
    ids=["trainer", "config"],
)
def test_an_old_argument_is_refused_with_the_new_spelling(make, given, hint):
    (name,) = given
    with pytest.raises(ConfigError, match=name) as refused:
        make(given)
    assert refused.value.hint == hint


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("value", [None, True, False, 0, 2, "1", [0], "apex"], ids=repr)
def test_every_old_argument_has_a_hint_for_any_value(name, value):
    now = OLD[name](value)
    assert now.hint
    if now.options:
        assert {*now.options} <= {*TrainerConfig.__dataclass_fields__}
    with pytest.raises(ConfigError, match=rf"unknown argument '{name}'") as refused:
        UnifiedTrainer("reference", **{name: value})
    assert refused.value.hint == now.hint


def test_a_mere_slip_is_told_as_before():
    with pytest.raises(ConfigError, match="did you mean 'max_epochs'"):
        UnifiedTrainer("reference", max_epoch=3)
    with pytest.raises(ConfigError, match="accelerator must be one of 'auto'"):
        UnifiedTrainer("reference", accelerator="tpu")


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("F1", 'metric("f1")'),
        ("F1Score", 'metric("f1")'),
        ("Fbeta", 'metric("f1"); for another beta, pass torchmetrics.FBetaScore(task=..., beta=...).'),
        ("MulticlassAccuracy", 'metric("accuracy", num_classes=)'),
        ("MultilabelF1Score", 'metric("f1", num_labels=)'),
        ("BinaryRecall", 'metric("recall")'),
        ("IoU", 'metric("jaccard")'),
        ("ROC_AUC", 'metric("auroc")'),
        ("MeanSquaredError", 'metric("mse")'),
        ("RootMeanSquaredError", 'metric("mse", squared=False)'),
        ("CohenKappa", 'metric("cohen_kappa")'),
        ("acuracy", "did you mean 'accuracy'?"),
    ],
)
def test_a_metric_s_other_name_is_refused_with_the_short_one(name, hint):
    with pytest.raises(SpecError, match=re.escape(f"metric() does not know {name!r}.")) as refused:
        metric(name)
    assert refused.value.hint == hint


def test_what_the_hints_name_is_there():
    assert metric("f1", num_classes=3)
    assert metric("f1", num_labels=3)
    assert metric("mse", squared=False)
    assert metric("accuracy", num_classes=5, top_k=2)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("compute_on_step", "remove it"),
        ("mdmc_average", "multidim_average="),
        ("output_transform", "ignite.metrics"),
    ],
)
def test_an_old_option_of_a_metric_is_refused_by_name(option, hint):
    with pytest.raises(SpecError, match=rf"metric\('accuracy'\) no longer takes {option}=[\s\S]*{hint}"):
        metric("accuracy", **{option: False})


# --- MLflow -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "file:mlruns", "./mlruns", "/tmp/mlruns"])
def test_a_store_in_plain_files_is_refused_with_the_database(uri):
    with pytest.raises(ConfigError, match=r"does not support file stores[\s\S]*sqlite:///.*mlflow\.db"):
        MLflowLogger(tracking_uri=uri)


def test_mlflow_itself_refuses_it_from_this_release_on(tmp_path, monkeypatch):
    import mlflow

    with pytest.raises(mlflow.exceptions.MlflowException, match="maintenance mode"):
        mlflow.MlflowClient(tracking_uri=str(tmp_path / "mlruns")).search_experiments()
    mlflow_compat.refuse_file_store("./mlruns", "3.12.0")
    mlflow_compat.refuse_file_store("sqlite:///mlflow.db", "3.17.2")
    mlflow_compat.refuse_file_store("http://127.0.0.1:5000", "3.17.2")
    mlflow_compat.refuse_file_store("databricks", "3.17.2")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    MLflowLogger(tracking_uri="./mlruns")


# --- torch ------------------------------------------------------------------------------------------------------------


def test_before_torch_2_6_only_what_torch_allows_is_read(tmp_path, monkeypatch):
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {}, "when": __import__("datetime").timedelta(1)}, path)
    assert foreign.read(path)
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    assert torch_compat.code_finder() is None
    with pytest.raises(CheckpointError, match="references code"):
        foreign.read(path)


def test_before_torch_2_6_nothing_keeps_from_compiling(monkeypatch):
    def never(graph, inputs):
        raise AssertionError("compiled")

    module = torch.compile(nn.Linear(2, 2), backend=never)
    with torch_compat.uncompiled():
        module(torch.ones(1, 2))
    monkeypatch.delattr(torch.compiler, "set_stance")
    with torch_compat.uncompiled(), pytest.raises(Exception, match="compiled"):
        module(torch.ones(1, 2))


def test_before_torch_2_6_fsdp_is_refused(monkeypatch):
    import torch.distributed.fsdp

    assert torch_compat.fully_shard() is torch.distributed.fsdp.fully_shard
    monkeypatch.delattr(torch.distributed.fsdp, "fully_shard")
    with pytest.raises(NotImplementedError, match=r"needs torch 2\.6 or newer"):
        torch_compat.fully_shard()


# --- checkpoints that name code ---------------------------------------------------------------------------------------

NAMING = {"state_dict": {"w": torch.ones(1)}, "hyper_parameters": {"_instantiator": "os.system"}}


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_names_code_is_not_for_a_lightning_that_imports_it(archive, tmp_path):
    path = tmp_path / "bad.ckpt"
    torch.save(NAMING, path, _use_new_zipfile_serialization=archive)
    for release in ("2.4.0", "2.6.5"):
        with pytest.raises(CheckpointError, match=r"'_instantiator'.*CVE-2026-58659[\s\S]*unitrain convert"):
            refuse_instantiator(path, release)
    refuse_instantiator(path, "2.6.6")
    torch.save({**NAMING, "hyper_parameters": {"lr": 1}}, path, _use_new_zipfile_serialization=archive)
    refuse_instantiator(str(path), "2.4.0")


def test_a_folder_is_looked_into_and_what_is_no_file_is_lightning_s_to_find(tmp_path):
    torch.save(NAMING, tmp_path / "meta.pt")
    with pytest.raises(CheckpointError, match="_instantiator"):
        refuse_instantiator(tmp_path, "2.5.6")
    (tmp_path / "text").write_text("no pickle")
    for given in (None, "last", "s3://bucket/file.ckpt", tmp_path / "text", tmp_path / "nothing"):
        refuse_instantiator(given, "2.5.6")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("what", ["fit", "validate", "test", "predict"])
def test_a_module_s_run_is_refused_before_it_starts(framework, what, tmp_path, monkeypatch):
    from pytorch_lightning.demos.boring_classes import BoringModel

    from unitrain_bridges.lightning import sessions

    torch.save(NAMING, tmp_path / "bad.ckpt")
    monkeypatch.setattr(sessions, "refuse_instantiator", lambda given, _: refuse_instantiator(given, "2.6.5"))
    module = BoringModel()
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, accelerator="cpu")
    monkeypatch.setattr(module, "setup", lambda stage: pytest.fail("it ran"))
    with pytest.raises(CheckpointError, match="_instantiator"):
        getattr(trainer, what)(module, ckpt_path=tmp_path / "bad.ckpt")
