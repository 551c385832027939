"""Hyper-parameters take one plain form, for the checkpoint and every tracker, or are refused before training."""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unitrain import Event, ModelCheckpoint, SpecError, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.checkpoint.hparams import plain_hparams
from unitrain.testing.cases import spec
from unitrain.testing.models import loader

FRAMEWORKS = ["reference", "lightning", "ignite"]


class Kind(Enum):
    A = "a"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Net:
    width: int = 8
    kinds: list = field(default_factory=lambda: [Kind.A])


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what a user may have

FORMS = {
    "namespace": (argparse.Namespace(lr=0.1, net=argparse.Namespace(width=3)), {"lr": 0.1, "net": {"width": 3}}),
    "dataclass": (Net(), {"width": 8, "kinds": ["a"]}),
    "enum": ([Kind.A, Level.HIGH], ["a", 3]),
    "path": (Path("a") / "b", "a/b"),
    "device": ([torch.device("cpu"), torch.float32], ["cpu", "torch.float32"]),
    "numpy": ({"x": np.float32(0.5), "i": np.int64(3), "a": np.ones((1, 2))}, {"x": 0.5, "i": 3, "a": [[1.0, 1.0]]}),
    "tensor": ([torch.tensor(0.5), torch.ones(2)], [0.5, [1.0, 1.0]]),
    "sets": ([{3, 1}, frozenset("b"), {1, "a"}], [[1, 3], ["b"], ["a", 1]]),
    "time": ([dt.date(2024, 1, 2), dt.timedelta(days=1)], ["2024-01-02", "1 day, 0:00:00"]),
    "range": (range(3), [0, 1, 2]),
    "namedtuple": (Point(1, 2), [1, 2]),
    "ordered": (OrderedDict(a=1), {"a": 1}),
    "integer keys": ({1: {2: 3}}, {1: {2: 3}}),
    "bytes": (b"\xff", b"\xff"),
    "large": (2**70, 2**70),
    "nothing": ([None, [], {}], [None, [], {}]),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_has_a_plain_form_takes_it(name):
    given, expected = FORMS[name]
    found = plain_hparams({"it": given})
    assert found == {"it": expected}
    json.dumps(found, default=str)


def test_a_configuration_of_omegaconf_is_resolved():
    conf = pytest.importorskip("omegaconf").OmegaConf.create({"a": {"b": 1, "c": [1, 2]}, "d": "${a.b}"})
    assert plain_hparams(conf) == {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert plain_hparams({"cfg": conf.a, "list": conf.a.c}) == {"cfg": {"b": 1, "c": [1, 2]}, "list": [1, 2]}


def holding_itself():
    made = {}
    made["a"] = made["b"] = [made]
    return made


REFUSED = {
    "module": (nn.ReLU(), r"hparams\['it'\] is a ReLU[\s\S]*Hint: .*\"ReLU\""),
    "class": (nn.ReLU, r"hparams\['it'\] is the class ReLU[\s\S]*Hint: .*\"ReLU\""),
    "function": (len, r"hparams\['it'\] is a builtin_function_or_method[\s\S]*Hint: .*\"len\""),
    "lambda": ({"deep": [lambda: 0]}, r"hparams\['it'\]\['deep'\]\[0\] is a function"),
    "recursive": (holding_itself(), "contains itself"),
    "object": (object(), r"hparams\['it'\] is a object"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_rest_is_refused_before_training(framework, name):
    given, message = REFUSED[name]
    begun = []
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    trainer.on(Event.FIT_START, lambda: begun.append(1))
    with pytest.raises(SpecError, match=message):
        trainer.fit(spec(hparams={"it": given}), loader())
    with pytest.raises(SpecError, match=message):
        trainer.validate(spec(hparams={"it": given}), loader())
    assert not begun


def test_a_missing_value_of_omegaconf_is_refused_by_name():
    conf = pytest.importorskip("omegaconf").OmegaConf.create({"a": {"b": "???"}})
    with pytest.raises(SpecError, match=r"cannot be read: .*a\.b[\s\S]*Hint: set the missing value"):
        plain_hparams(conf)


class Told:
    def __init__(self):
        self.params = []

    def log_metrics(self, metrics, step):
        pass

    def log_hyperparams(self, params):
        self.params.append(params)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_checkpoints_and_trackers_get_the_same(framework, tmp_path):
    given = {name: value for name, (value, _) in FORMS.items()}
    trackers = [Told(), Told()]
    options = {"loggers": trackers, "callbacks": [ModelCheckpoint(tmp_path, save_last=True)]}
    UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, **options).fit(spec(hparams=given), loader())
    expected = {name: value for name, (_, value) in FORMS.items()}
    assert [one.params for one in trackers] == [[expected]] * 2
    assert io.read(tmp_path / "last.ckpt")["unitrain"]["hparams"] == expected
    resume = partial(UnifiedTrainer, framework, max_epochs=2, enable_progress_bar=False, callbacks=options["callbacks"])
    assert resume().fit(spec(hparams=given), loader(), ckpt_path=tmp_path / "last.ckpt").epoch == 1
