"""A configuration is a run: the same bits in each process, from its saved file, and from the same program in Python."""

import subprocess
import sys

import pytest
import torch

from unitrain import load_weights

BACKENDS = ("reference", "lightning", "ignite")
FIT = ("fit", "--config", "run.yaml")
ACCURACY = "acc: {name: accuracy, num_classes: 3}"
"""It imports torchmetrics, which takes longer than the run."""
PROGRAM = """
from functools import partial
import sys
import torch
import tiny
from unitrain import EarlyStopping, LRSchedule, TrainSpec, UnifiedTrainer, seed_everything

seed_everything(7)
spec = TrainSpec(
    model=tiny.Net(width=8),
    loss=torch.nn.CrossEntropyLoss(),
    optimizer=partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    lr_scheduler=LRSchedule(partial(torch.optim.lr_scheduler.StepLR, step_size=2), interval="step"),
    metrics={"errors": tiny.error_rate},
)
data = tiny.data(batch_size=8)
trainer = UnifiedTrainer(
    sys.argv[1], max_epochs=2, accelerator="cpu", seed=7, enable_progress_bar=False, callbacks=[EarlyStopping("val/loss")]
)
trainer.fit(spec, data)
torch.save(spec.model.state_dict(), "program.pt")
"""


def weights(number):
    return load_weights(f"runs/{number}/checkpoints/last.ckpt")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("framework", ["ignite", *(pytest.param(one, marks=pytest.mark.slow) for one in BACKENDS[:2])])
def test_two_processes_and_the_same_program_train_the_same_bits(project, typed, run, framework):
    (project / "quick.yaml").write_text((project / "run.yaml").read_text().replace(ACCURACY, "errors: tiny.error_rate"))
    fit = ("fit", "--config", "quick.yaml", "--framework", framework)
    for _ in range(2):
        typed(*fit)
    assert same(weights(1), weights(2))
    (project / "program.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "program.py", framework], check=True, timeout=250)
    assert same(weights(1), torch.load("program.pt", weights_only=True))
    run(*fit, "--seed", 8)
    assert not same(weights(1), weights(3)), "the weights depend on the seed, or the comparison sees nothing"


def test_backends_train_the_same_bits(project, run):
    for framework in BACKENDS:
        assert run(*FIT, "--framework", framework)[0] == 0
    assert same(weights(1), weights(2))
    assert same(weights(1), weights(3))


def test_a_saved_configuration_is_the_run(project, run):
    override = ("--spec.model.width", 5, "--spec.optimizer", "torch.optim.SGD", "--spec.optimizer.lr", 0.3)
    assert run(*FIT, *override)[0] == 0
    assert run("fit", "--config", "runs/1/config.yaml")[0] == 0
    assert same(weights(1), weights(2))
    assert (project / "runs/1/config.yaml").read_text() == (project / "runs/2/config.yaml").read_text()


def test_a_saved_configuration_keeps_defaults_that_change(project, run):
    assert run(*FIT)[0] == 0
    source = (project / "tiny.py").read_text()
    (project / "tiny.py").write_text(source.replace("dropout: float = 0.1", "dropout: float = 0.9"))
    sys.modules.pop("tiny")
    assert run("fit", "--config", "runs/1/config.yaml")[0] == 0
    assert run(*FIT)[0] == 0
    assert same(weights(1), weights(2))
    assert not same(weights(1), weights(3)), "the default has changed for a file that does not say it"


def test_a_configuration_builds_new_objects_each_time(project, run):
    from unitrain.cli.configuration.configuration import load
    from unitrain.utilities.import_path import importable

    with importable():
        configuration = load(["run.yaml"])
        first, second = configuration.build(), configuration.build()
    assert first.spec.model is not second.spec.model
    assert same(first.spec.model.state_dict(), second.spec.model.state_dict())
    assert torch.equal(first.train.train.dataset.tensors[0], second.train.train.dataset.tensors[0])
    assert first.trainer_options["callbacks"][0] is not second.trainer_options["callbacks"][0]
