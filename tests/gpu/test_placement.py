"""Batches are copied to the device whole, in every stage, and without a wait; what comes back is where users expect it."""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.gpu.training import loader, sgd, spec, trainer
from unitrain import Event, TrainSpec, metric
from unitrain.testing.models import CLASSES, batches
from unitrain.testing.trace import differences


class Named(NamedTuple):
    inputs: Tensor
    target: Tensor


@dataclass
class Record:
    inputs: Tensor
    target: Tensor
    note: str = "kept"


class Movable:
    """Moves itself, as a graph of torch_geometric does."""

    def __init__(self, inputs, target):
        self.inputs, self.target = inputs, target

    def to(self, device):
        return Movable(self.inputs.to(device), self.target.to(device))


def _attributes(batch):
    return batch.inputs, batch.target


KINDS = {
    "pair": (lambda x, y: (x, y), lambda batch: batch),
    "mapping": (lambda x, y: {"input": x, "target": y}, lambda batch: (batch["input"], batch["target"])),
    "nested": (lambda x, y: [{"views": [x, x]}, y], lambda batch: (batch[0]["views"][1], batch[1])),
    "named tuple": (Named, _attributes),
    "dataclass": (Record, _attributes),
    "movable": (Movable, _attributes),
    "packed": (
        lambda x, y: (nn.utils.rnn.pack_padded_sequence(x[:, None], [1] * len(x), batch_first=True), y),
        lambda batch: (batch[0].data, batch[1]),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_on_the_device_in_every_stage(kind, framework, device):
    made, parts = KINDS[kind]
    given, seen = [made(x, y) for x, y in batches()], []
    before = copy.deepcopy(given)

    def step(model, batch):
        inputs, target = parts(batch)
        seen.append((type(batch), inputs.device, target.device))
        return model(inputs), target

    def training_step(model, batch):
        output, target = step(model, batch)
        return {"loss": nn.functional.cross_entropy(output, target), "output": output, "target": target}

    own = TrainSpec(
        model=nn.Linear(36, CLASSES),
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd,
        metrics={"acc": metric("accuracy", num_classes=CLASSES)},
        training_step=training_step,
        validation_step=step,
        predict_step=lambda model, batch: step(model, batch)[0],
        batch_size=lambda batch: len(parts(batch)[0]),
    )
    made_of = trainer(framework, device, max_epochs=1)
    made_of.fit(own, given, given)
    made_of.test(own, given)
    predicted = made_of.predict(own, given)
    assert len(seen) == 4 * len(given)
    assert {*seen} == {(type(given[0]), device, device)}
    assert {one.device.type for one in predicted} == {"cpu"}
    assert not differences([parts(one) for one in before], [parts(one) for one in given])  # and still the host's


def test_what_a_run_leaves_is_on_the_device(framework, device):
    """Lightning moves the model to the host at the end of a fit; a user who goes on with the loop by hand has it here."""
    own = spec("cnn", optimizer=torch.optim.AdamW)
    made = trainer(framework, device)
    made.fit(own, loader(device))
    optimizer = made.optimizers["optimizer"]
    left = [("weights", value) for value in own.model.state_dict().values()]
    left += [item for state in optimizer.state.values() for item in state.items()]
    assert {value.device for name, value in left if name != "step"} == {device}
    # read on the host by each step: on the device each step would wait for it
    assert {value.device.type for name, value in left if name == "step"} == {"cpu"}
    inputs, target = next(iter(loader(device)))
    nn.functional.cross_entropy(own.model(inputs.to(device)), target.to(device)).backward()
    optimizer.step()


@pytest.mark.gpu
def test_a_gpu_that_is_not_there_is_refused(framework):
    from unitrain import ConfigError

    with pytest.raises(ConfigError, match="numbered from 0"):
        trainer(framework, torch.device("cuda"), devices=[torch.cuda.device_count()]).fit(spec(), batches())


@pytest.mark.gpu
def test_the_device_of_a_run_is_the_current_one_while_it_runs(framework):
    """What a step creates with ``device="cuda"`` has to be where the model is, and its random states are those kept."""
    last = torch.device("cuda", torch.cuda.device_count() - 1)
    if last.index == 0:
        pytest.skip("needs two GPUs: on the first the current device is always right")
    made = trainer(framework, last, devices=[last.index])
    seen = []
    made.on(Event.BATCH_END, lambda: seen.append(torch.cuda.current_device()))
    made.fit(spec(), batches())
    assert {*seen} == {last.index}
    assert torch.cuda.current_device() == 0
