"""The hints of what a user holds can be read by programs: parsers, editors, validators."""

import typing
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from unitrain import LRSchedule, TrainerConfig, TrainSpec
from unitrain.config import TrainerOptions
from unitrain.spec import SpecOptions


@pytest.mark.parametrize("holder", [TrainSpec, LRSchedule, TrainerConfig, TrainerOptions, SpecOptions])
def test_hints_can_be_read(holder):
    assert typing.get_type_hints(holder).keys() >= set(holder.__annotations__)


def test_an_optimizer_is_one_or_a_factory():
    hint = typing.get_type_hints(TrainSpec)["optimizer"]
    assert Optimizer in typing.get_args(hint)
    assert Callable[[list[nn.Parameter]], Optimizer] in typing.get_args(hint)
    assert (
        typing.get_type_hints(LRSchedule)["factory"]
        == Callable[[Optimizer], torch.optim.lr_scheduler.LRScheduler] | None
    )
