"""The accuracy of a batch comes from whatever can give it, and never stops or holds up a run."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchmetrics

from unitrain import metric
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.loggers.batch_accuracy import accuracy_of

_PROGRAM = """
from functools import partial
from pathlib import Path
import torch
from torchmetrics import MinMaxMetric
from torchmetrics.classification import MulticlassAccuracy
from unitrain import TrainSpec, UnifiedTrainer

class Client:
    def push_metrics(self, metrics):
        with Path("pushed").open("a") as file:
            file.write(f"{'batch_accuracy' in metrics}\\n")

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, index):
        return torch.full((4,), float(index)), index % 3

if __name__ == "__main__":
    metrics = {"acc": MinMaxMetric(MulticlassAccuracy(3)), "top1_acc": MulticlassAccuracy(3) * 100}
    sgd = partial(torch.optim.SGD, lr=0.1)
    spec = TrainSpec(model=torch.nn.Linear(4, 3), loss=torch.nn.CrossEntropyLoss(), optimizer=sgd, metrics=metrics)
    options = {"devices": 2, "accelerator": "cpu", "enable_progress_bar": False}
    trainer = UnifiedTrainer("ignite", max_epochs=1, loggers=[Client()], **options)
    trainer.fit(spec, torch.utils.data.DataLoader(Rows(), 4))
"""


@pytest.mark.slow
def test_no_metric_waits_for_a_process_that_does_not_measure(tmp_path):
    """One of two processes measures batches: a mapping of a plain metric within another, then a composed one."""
    script = tmp_path / "both.py"
    script.write_text(_PROGRAM)
    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pushed").read_text().split() == ["True", "True"]


def test_every_metric_within_stays_alone():
    given = torchmetrics.MinMaxMetric(torchmetrics.classification.MulticlassAccuracy(3)) * 100
    measures = accuracy_of({"acc": given}, SINGLE_PROCESS)
    parts = [one for one in measures._metrics[0].given.modules() if isinstance(one, torchmetrics.Metric)]
    assert len(parts) == 3
    assert not [one for one in parts if one._to_sync or one.distributed_available_fn()]
    assert given._to_sync


def test_after_a_metric_of_classes_the_next_one_is_taken(train, new_spec):
    got = []
    metrics = {
        "acc_by_class": metric("accuracy", class_names=["a", "b", "c"]),
        "acc": metric("accuracy", num_classes=3),
    }
    for chosen in (metrics, {"acc": metrics["acc"]}):
        client = _Client()
        train("reference", client, spec=new_spec(metrics=chosen))
        got.append(client.got)
    assert got[0] == got[1]
    assert "batch_accuracy" in got[0][0]


def test_without_a_pair_for_the_metric_the_step_s_own_value_is_taken(train, new_spec):
    def step(model, batch):
        inputs, target = batch
        return {"loss": torch.nn.functional.cross_entropy(model(inputs), target), "top1_acc": torch.tensor(0.25)}

    client = _Client()
    train("reference", client, spec=new_spec(loss=None, training_step=step))
    assert [one["batch_accuracy"] for one in client.got] == [0.25] * 12


def test_a_metric_that_raises_is_told_of_once_and_training_goes_on(train, framework, new_spec, monkeypatch):
    from unitrain.loggers.batch_accuracy import BatchAccuracy

    calls = []

    def broken(self, output, target):
        calls.append(1)
        if len(calls) in (2, 5):
            raise RuntimeError("on purpose")
        return 0.5

    monkeypatch.setattr(BatchAccuracy, "__call__", broken)
    client = _Client()
    with pytest.warns(UserWarning, match="could not be measured") as caught:
        assert train(framework, client).state.step == 12
    assert ["batch_accuracy" in one for one in client.got] == [number not in (2, 5) for number in range(1, 13)]
    assert len([one for one in caught if "could not be measured" in str(one.message)]) == 1


class _Client:
    def __init__(self):
        self.got = []

    def push_metrics(self, metrics):
        self.got.append(metrics)
