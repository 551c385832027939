"""One step of training gives the same bits on each installed backend, and run.yaml runs."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from data import FEATURES, rides
from model import Net

from unitrain import BackendNotInstalledError, TrainSpec, UnifiedTrainer, seed_everything


def trained(framework: str) -> dict[str, torch.Tensor]:
    """Return the weights after one step on a backend."""
    seed_everything(0)
    spec = TrainSpec(
        model=Net(FEATURES, width=4), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.AdamW, lr=3e-3)
    )
    trainer = UnifiedTrainer(framework, max_steps=1, enable_progress_bar=False)
    trainer.fit(spec, rides().train)
    return spec.model.state_dict()


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_a_step_is_the_same_as_in_plain_pytorch(framework: str) -> None:
    try:
        weights = trained(framework)
    except BackendNotInstalledError as error:
        pytest.skip(str(error))
    wanted = trained("reference")
    assert weights.keys() == wanted.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, wanted[name]), name


def test_a_step_changes_the_model() -> None:
    seed_everything(0)
    before = Net(FEATURES, width=4).state_dict()
    after = trained("reference")
    assert not any(torch.equal(weight, before[name]) for name, weight in after.items())


def test_run_yaml_runs() -> None:
    command = [sys.executable, "-m", "unitrain", "fit", "--config", "run.yaml", "--trainer.fast_dev_run", "true"]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
