"""A loader whose state cannot be copied is refused with the place, wherever its position must be kept."""

from __future__ import annotations

import threading
from types import MappingProxyType

import pytest
import torch
from torch import nn

from unitrain import DataError, Event, LRFinder, StochasticWeightAveraging
from unitrain.data.position import copied_state


class Stateful:
    """Batches, and a state of which a part cannot be copied."""

    def __init__(self, state, sized):
        self.state = state
        if sized:
            self.__class__ = Sized

    def __iter__(self):
        return iter([(torch.ones(2), torch.zeros(2))] * 3)

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


class Sized(Stateful):
    def __len__(self):
        return 3


PROXY = {"rng": [0, {"table": MappingProxyType({"a": 1})}]}
PLACE = r"state_dict\(\)\['rng'\]\[1\]\['table'\] is a mappingproxy, which cannot be copied"


@pytest.mark.parametrize("sized", [True, False])
def test_a_checkpoint(make_trainer, make_spec, tmp_path, sized):
    trainer = make_trainer()
    trainer.on(Event.BATCH_END(once=2), lambda run: run.save_checkpoint(tmp_path / "one.ckpt"))
    with pytest.raises(DataError, match=PLACE) as caught:
        trainer.fit(make_spec(), Stateful(PROXY, sized))
    assert "plain values from state_dict()" in caught.value.hint
    assert not (tmp_path / "one.ckpt").exists()


def test_a_sanity_validation(make_trainer, make_spec):
    with pytest.raises(DataError, match=PLACE):
        make_trainer(num_sanity_val_steps=1).fit(make_spec(), Stateful({}, True), Stateful(PROXY, True))


def test_a_forward_pass_over_the_training_data(make_trainer, make_spec):
    spec = make_spec(model=nn.Sequential(nn.Unflatten(0, (2, 1)), nn.BatchNorm1d(1)))
    trainer = make_trainer(max_epochs=2, callbacks=[StochasticWeightAveraging(0.1, swa_epoch_start=1)])
    with pytest.raises(DataError, match=PLACE):
        trainer.fit(spec, Stateful(PROXY, True))


def test_a_search(framework, make_spec):
    with pytest.raises(DataError, match=PLACE):
        LRFinder(num_training=3).run(framework, make_spec(), Stateful(PROXY, True))


class Refusing:
    def __deepcopy__(self, memo):
        raise RuntimeError("not me")


def test_what_cannot_be_copied_is_named_with_its_place():
    endless = []
    endless.append(endless)
    rows = [
        ({"a": (1, threading.Lock())}, r"Stateful.state_dict\(\)\['a'\]\[1\] is a lock"),
        (Refusing(), r"Stateful.state_dict\(\) is a Refusing.*not me"),
        ({"a": [endless, Refusing()]}, r"Stateful.state_dict\(\)\['a'\]\[1\] is a Refusing"),
    ]
    for state, message in rows:
        with pytest.raises(DataError, match=message):
            copied_state(Stateful(state, False))
    assert copied_state(Stateful({"a": endless}, False))["a"][0] is not endless
