"""Gradients are cleared as the optimizer would clear them."""

import pytest
import torch
from torch import nn

from unitrain.optim.optimizers import clear_gradients


class Own(torch.optim.SGD):
    """Has something to do when gradients are cleared."""

    cleared = 0

    def zero_grad(self, set_to_none=True):
        self.cleared += 1
        super().zero_grad(set_to_none)


def with_gradients(kind=torch.optim.SGD):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    model[0].bias.grad = None  # some have none
    return kind([{"params": part.parameters()} for part in model], lr=0.1)


def gradients(optimizer):
    return [one.grad for group in optimizer.param_groups for one in group["params"]]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, Own])
def test_no_parameter_keeps_its_gradient(kind):
    optimizer = with_gradients(kind)
    assert any(one is not None for one in gradients(optimizer))
    clear_gradients(optimizer)
    assert not any(one is not None for one in gradients(optimizer))


def test_an_optimizer_with_its_own_way_is_asked(monkeypatch):
    optimizer = with_gradients(Own)
    clear_gradients(optimizer)
    assert optimizer.cleared == 1
    told = []
    plain = with_gradients()
    monkeypatch.setattr(plain, "zero_grad", lambda: told.append("instance"))
    clear_gradients(plain)
    assert told == ["instance"]


def test_who_patched_the_class_is_asked(monkeypatch):
    told, stock = [], torch.optim.Optimizer.zero_grad
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self: (told.append("class"), stock(self)))
    clear_gradients(with_gradients())
    assert told == ["class"]
