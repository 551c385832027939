"""Seeds, and the fence around evaluations: what they draw leaves no trace."""

from __future__ import annotations

import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import ConfigError, Event
from unitrain.utilities.rng import RngSnapshot, preserved_rng, seed_everything


def draws(*generators):
    """Return one draw of each generator."""
    others = [torch.rand((), generator=generator).item() for generator in generators]
    return [random.random(), np.random.rand(), torch.rand(()).item(), *others]  # noqa: NPY002 - the global generator


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32, 2**63])
def test_seed_everything_sets_all_generators(seed):
    seed_everything(seed)
    first = draws()
    assert draws() != first
    seed_everything(seed)
    assert draws() == first
    torch.manual_seed(seed)
    assert torch.rand(()).item() == first[2]


def test_different_seeds_draw_differently():
    found = []
    for seed in (0, 1):
        seed_everything(seed)
        found.append(draws())
    assert all(one != other for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("fails", [False, True])
def test_preserved_rng_leaves_no_trace_also_after_an_error(fails):
    own = torch.Generator().manual_seed(4)
    seed_everything(3)
    expected = draws(own)
    own.manual_seed(4)
    seed_everything(3)
    with suppress(ZeroDivisionError), preserved_rng([own]):
        assert draws(own) == expected
        draws(own)
        1 / (not fails)
    assert draws(own) == expected


def test_snapshot_can_be_restored_twice():
    snapshot = RngSnapshot()
    first = draws()
    snapshot.restore()
    assert draws() == first
    snapshot.restore()
    assert draws() == first


def test_seed_makes_two_runs_equal_and_no_seed_does_not(make_trainer, make_batches, make_spec):
    def weights(**options):
        spec = make_spec(model=nn.Linear(4, 1), loss=lambda output, _: nn.functional.dropout(output, 0.5).mean())
        nn.init.ones_(spec.model.weight)
        torch.seed()
        make_trainer(**options).fit(spec, make_batches())
        return spec.model.weight

    assert torch.equal(weights(seed=5), weights(seed=5))
    assert not torch.equal(weights(seed=5), weights(seed=6))
    assert not torch.equal(weights(), weights())


class Noisy(nn.Linear):
    """Draws in evaluation, as a dropout left on would, and draws from Python and NumPy too."""

    def forward(self, inputs):
        draws()
        return super().forward(inputs + torch.rand_like(inputs))


def noise():
    """Draw, as a handler of an evaluation may."""
    draws()


@pytest.mark.parametrize("shared", [False, True], ids=["own generators", "one generator for both loaders"])
def test_training_does_not_change_with_validation(make_trainer, make_spec, shared):
    data = TensorDataset(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(12, 1))

    def run(validates):
        generator = torch.Generator().manual_seed(1) if shared else None
        train = DataLoader(data, batch_size=4, shuffle=True, generator=generator)
        val = DataLoader(data, batch_size=4, shuffle=True, generator=generator)
        torch.manual_seed(0)
        trainer, spec, losses = (
            make_trainer(seed=2, max_epochs=3, val_check_interval=2),
            make_spec(model=Noisy(4, 1)),
            [],
        )
        trainer.on(Event.BATCH_END, lambda run: losses.append(run.state.loss.item()))
        trainer.on(Event.VAL_END, noise)
        trainer.fit(spec, train, val if validates else None)
        return (
            losses,
            spec.model.weight.tolist(),
            draws(),
            None if generator is None else generator.get_state().tolist(),
        )

    assert run(validates=True) == run(validates=False)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_by_itself_leaves_no_trace(make_trainer, make_spec, make_batches, stage):
    spec = make_spec(model=Noisy(4, 1))
    seed_everything(1)
    expected = draws()
    seed_everything(1)
    getattr(make_trainer(), stage)(spec, make_batches())
    assert draws() == expected


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", None, True])
def test_seed_everything_refuses_what_no_generator_takes(seed):
    with pytest.raises(ConfigError, match=r"seed must be an integer from 0 to .*\nHint: seed_everything\(0\)"):
        seed_everything(seed)
