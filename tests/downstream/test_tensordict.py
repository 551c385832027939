"""tensordict and torchrl: batches that are TensorDicts, and a loss of torchrl's with a target network."""

from functools import partial

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.modules import QValueActor
from torchrl.objectives import DQNLoss, SoftUpdate

from tests.downstream.same import check_same
from unitrain import TrainSpec

SIZES = []


def batches(count=4):
    return [TensorDict({"x": torch.rand(8, 3), "y": torch.rand(8, 1)}, batch_size=[8]) for _ in range(count)]


def squared(module, batch):
    SIZES.append(batch.batch_size)
    return (module(batch)["z"] - batch["y"]).square().mean()


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_tensordict_module(precision):
    def case():
        module = TensorDictModule(torch.nn.Linear(3, 1), in_keys=["x"], out_keys=["z"])
        spec = TrainSpec(
            model=module,
            optimizer=partial(torch.optim.SGD, lr=0.1),
            training_step=squared,
            validation_step=lambda module, batch: {"loss": squared(module, batch)},
        )
        return spec, batches(), batches(2)

    SIZES.clear()
    check_same(case, precision=precision)
    assert set(SIZES) == {torch.Size([8])}


def transitions(count=4):
    made = []
    for _ in range(count):
        after = {"observation": torch.rand(8, 4), "reward": torch.rand(8, 1)}
        ended = {"done": torch.rand(8, 1) > 0.8, "terminated": torch.rand(8, 1) > 0.8}
        action = torch.nn.functional.one_hot(torch.randint(0, 2, (8,)), 2)
        fields = {"observation": torch.rand(8, 4), "action": action, "next": {**after, **ended}}
        made.append(TensorDict(fields, batch_size=[8]))
    return made


def test_dqn():
    def case():
        actor = QValueActor(torch.nn.Linear(4, 2), in_keys=["observation"], action_space="one-hot")
        loss = DQNLoss(actor, action_space="one-hot", delay_value=True)
        loss.make_value_estimator(gamma=0.9)
        target = SoftUpdate(loss, eps=0.9)

        def step(module, batch):
            if module.training:
                target.step()
            return module(batch)["loss"]

        spec = TrainSpec(
            model=loss,
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            training_step=step,
            validation_step=lambda module, batch: {"loss": module(batch)["loss"]},
        )
        return spec, transitions(), transitions(2)

    check_same(case)
