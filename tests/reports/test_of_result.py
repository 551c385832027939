"""`FitResult.report`: what a result knows of its run, on each backend, in a copy, from other processes."""

from __future__ import annotations

import copy
import pickle
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.reports.pages import batches, does, fitted, sections, seen, spec
from unitrain import ConfigError, ModelCheckpoint, ShardedBatches, UnifiedTrainer
from unitrain.reports.run import page as page_module
from unitrain.reports.run.facts import spec_text
from unitrain.reports.run.page import step_seconds
from unitrain.reports.run.record import RunRecord
from unitrain.utilities.secrets import without_secrets

FRAMEWORKS = ("lightning", "ignite", "reference")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_result_reports_itself(framework, tmp_path):
    result = fitted(framework, seed=3, callbacks=[ModelCheckpoint(tmp_path / "kept")])
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert does(page) == []
    assert sections(page) == [
        "Each epoch",
        "Learning rate and time",
        "Metrics",
        "Checkpoints",
        "What was run",
        "With what",
    ]
    for told in (f"Fit on {framework}", "seed 3", "max_epochs: 2", "SGD(lr=0.1)", "MSELoss()", "last", "cpu"):
        assert told in seen(page)


def test_the_same_is_known_of_a_copy(tmp_path):
    result = fitted()
    for name, one in {"a": result, "b": pickle.loads(pickle.dumps(result)), "c": copy.deepcopy(result)}.items():
        one.report(tmp_path / name)
    pages = [re.sub(r"Written by.*", "", (tmp_path / name).read_text("utf-8")) for name in "abc"]
    assert pages[0] == pages[1] == pages[2]
    assert b"torch.nn" not in pickle.dumps(result)


def test_a_report_is_not_overwritten(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="already exists"):
        fitted().report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"
    fitted().report(tmp_path / "report.html", overwrite=True)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_native_code_reports_what_is_known(tmp_path):
    import pytorch_lightning as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)

        def training_step(self, batch):
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batches(1)[0]), batch_size=4)
    trainer = UnifiedTrainer(
        "ignite", max_epochs=2, enable_progress_bar=False, log_every_n_steps=1, default_root_dir=tmp_path
    )
    result = trainer.fit(Module(), data)
    result.report(tmp_path / "report.html")
    text = seen((tmp_path / "report.html").read_text("utf-8"))
    assert "model: Module with 5 parameters" in text
    assert "max_epochs: 2" in text


@pytest.mark.slow  # starts two processes
def test_several_processes_report_from_the_one_that_asked(tmp_path):
    options = {"max_epochs": 1, "enable_progress_bar": False, "devices": 2, "accelerator": "cpu", "strategy": "ddp"}
    result = UnifiedTrainer("reference", **options).fit(spec(), ShardedBatches(batches(4)))
    result.report(tmp_path / "report.html")
    text = seen((tmp_path / "report.html").read_text("utf-8"))
    assert re.search(r"processes\s+2", text)
    assert "SGD(lr=0.1)" in text


def test_time_of_a_step_leaves_out_the_first_epoch():
    rows = [{"steps": 10, "seconds": 100.0}, {"steps": 10, "seconds": 2.0}, {"steps": 5, "seconds": 2.0}]
    assert step_seconds(RunRecord(status="finished", framework="x", times=rows)) == pytest.approx(0.3)
    assert step_seconds(RunRecord(status="finished", framework="x", times=rows[:1])) == 10
    assert step_seconds(RunRecord(status="finished", framework="x")) is None


def test_a_spec_is_told_as_a_person_would_write_it():
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=2)
    told = spec_text(spec(lr_scheduler=schedule, hparams={"width": 4, "token": "hush"}, metrics={"acc": batches}))
    assert told.splitlines() == [
        "model: Linear with 5 parameters, 5 of them trained",
        "  Linear(in_features=4, out_features=1, bias=True)",
        "loss: MSELoss()",
        "optimizer: SGD(lr=0.1)",
        "lr_scheduler: StepLR(step_size=2)",
        "metrics: ",
        "  acc: batches",
        "hparams: ",
        "  width: 4",
        "  token: ***",
    ]


SECRETS = {
    "api_key: x": "api_key: ***",
    '  "apiKey": "x"': '  "apiKey": ***',
    "- password=x": "- password=***",
    "aws.secret_access_key: x": "aws.secret_access_key: ***",
    "hf_token: x": "hf_token: ***",
    "postgresql://me:x@host/db": "postgresql://host/db",
    "tokens: 3": "tokens: 3",
    "max_tokens: 3": "max_tokens: 3",
    "tokenizer: x": "tokenizer: x",
    "key: x": "key: x",
    "connecting failed; api_key=x, again": "connecting failed; api_key=***, again",
    "{'Authorization': 'Bearer x y'}": "{'Authorization': ***}",
    "(private_key='x')": "(private_key=***)",
    "token: x https://u:x@h/a": "token: ***",
    "epoch 3: loss=0.5": "epoch 3: loss=0.5",
}


@pytest.mark.parametrize(("text", "told"), SECRETS.items())
def test_secrets_are_left_out(text, told):
    assert without_secrets(text) == told


def test_each_field_of_a_record_is_on_the_page():
    source = Path(page_module.__file__).read_text("utf-8")
    assert {name for name in RunRecord.__dataclass_fields__ if f"record.{name}" not in source} <= {
        "schema",
        "process",
        "epoch",
    }
