"""A run in one process is one on every backend, whatever a cluster left in the environment."""

from __future__ import annotations

import pytest
import torch

from unitrain import UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader

LEFT = {
    "sbatch --ntasks=2": {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "5", "SLURM_JOB_NAME": "train"},
    "a shell in it": {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
    "one task of one": {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    "nothing but a number": {"SLURM_NTASKS": "2"},
}


def fit(framework):
    torch.manual_seed(0)
    spec = cases.spec()
    trainer = UnifiedTrainer(framework, max_epochs=1, seed=0, devices=1, enable_progress_bar=False)
    step = trainer.fit(spec, loader(), loader()).step
    return step, [value.clone() for value in spec.model.state_dict().values()]


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
def test_one_process_trains_as_without_a_cluster(framework, left, monkeypatch):
    step, weights = fit(framework)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    again, same = fit(framework)
    assert again == step
    assert all(map(torch.equal, weights, same))
