"""The comparison itself: one bit is noticed, wherever it is."""

from functools import partial

import pytest
import torch

from tests.downstream.same import check_same
from unitrain import TrainSpec
from unitrain.testing import reference


def case():
    spec = TrainSpec(model=torch.nn.Linear(2, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    batches = [(torch.rand(4, 2), torch.rand(4, 1)) for _ in range(3)]
    return spec, batches, batches


def test_equal_runs_are_equal():
    assert check_same(case)["metrics"]


@pytest.mark.parametrize("part", ["weights", "generator"])
def test_one_bit_is_noticed(part, monkeypatch):
    own = reference._step_result

    def moved(result):
        if part == "generator":
            torch.rand(1)
        return own(result if part == "generator" else result * (1 + 2**-20))

    def step(model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def own_step():
        spec, *loaders = case()
        made = TrainSpec(model=spec.model, loss=spec.loss, optimizer=spec.optimizer, training_step=step)
        return (made, *loaders)

    monkeypatch.setattr(reference, "_step_result", moved)
    with pytest.raises(AssertionError, match=part):
        check_same(own_step)
