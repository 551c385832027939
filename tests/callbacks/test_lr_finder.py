"""LRFinder: the same numbers everywhere, and nothing is left of the search."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import ConfigError, LRFinder, SpecError, TrainSpec, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader, mlp, tensors

FRAMEWORKS = ("reference", "lightning", "ignite")


def spec():
    torch.manual_seed(0)
    return cases.spec("mlp", "sgd", "epoch")


def found(framework, given=None, data=None, **options):
    trainer = UnifiedTrainer(framework, seed=5, enable_progress_bar=False, **options)
    finder = LRFinder(min_lr=1e-4, max_lr=10.0, num_training=40, smoothing=0.9)
    return finder.run(trainer, given or spec(), data or loader())


@pytest.mark.parametrize(
    "options", [{}, {"accumulate_grad_batches": 2, "precision": "bf16-mixed"}], ids=["plain", "bf16"]
)
def test_the_same_numbers_on_every_backend(options):
    results = [found(framework, **options) for framework in FRAMEWORKS]
    assert results[0].results == results[1].results == results[2].results
    assert len({one.suggestion() for one in results}) == 1


def test_the_same_numbers_as_a_loop_by_hand():
    """Each rate once, by one factor; the loss smoothed without bias."""
    inputs, classes = tensors(8)
    torch.manual_seed(0)
    model = nn.Linear(36, 5)
    made = TrainSpec(model=copy.deepcopy(model), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=7.0))
    finder = LRFinder(0.001, 0.1, 5).run("reference", made, [(inputs, classes)])
    average, expected = 0.0, []
    for step in range(5):
        rate = 0.001 * 100 ** (step / 4)
        loss = nn.functional.cross_entropy(model(inputs), classes)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter.sub_(rate * grad)
        average = 0.98 * average + 0.02 * loss.item()
        expected.append((rate, average / (1 - 0.98 ** (step + 1))))
    assert [rate for rate, _ in finder.results] == pytest.approx([rate for rate, _ in expected], rel=1e-12)
    assert [loss for _, loss in finder.results] == pytest.approx([loss for _, loss in expected], rel=1e-5)
    assert finder.results[-1][0] == 0.1


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("made", [False, True])
def test_nothing_is_left_of_it(framework, made):
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    given = replace(spec(), model=model, optimizer=optimizer if made else partial(torch.optim.Adam, lr=0.3))
    generator = torch.Generator().manual_seed(4)
    data = DataLoader(TensorDataset(*tensors()), batch_size=4, shuffle=True, generator=generator)
    model.eval()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    states = torch.get_rng_state(), generator.get_state(), random.getstate()
    found(framework, given, data)
    after = model.state_dict(), optimizer.state_dict()
    assert all(torch.equal(one, after[0][name]) for name, one in before[0].items())
    assert before[1] == after[1]
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], generator.get_state())
    assert states[2] == random.getstate()
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_optimizers_get_the_rate_together():
    results = []
    for framework in FRAMEWORKS:
        torch.manual_seed(0)  # the model is made by it
        results.append(found(framework, cases.adversarial()).results)
    assert len(results[0]) > 3
    assert results[0] == results[1] == results[2]


def test_a_search_that_diverges_ends(tmp_path):
    made = TrainSpec(
        model=nn.Linear(36, 5), loss=lambda out, _: (out**2).mean(), optimizer=partial(torch.optim.SGD, lr=1)
    )
    finder = LRFinder(1.0, 1e6, 60, smoothing=0.0).run("reference", made, loader())
    assert 1 <= len(finder.results) < 60
    finder.plot(tmp_path / "short.png")


def test_the_steepest_descent_is_suggested_and_drawn(tmp_path):
    finder = LRFinder(0.001, 1.0, 8)
    finder.results = [
        (10.0**-exponent, loss) for exponent, loss in zip(range(8, 0, -1), [5, 5, 4.9, 3, 1, 0.9, 2, 9], strict=True)
    ]
    assert finder.suggestion(0, 0) == 1e-5
    with pytest.raises(ConfigError, match="skipped"):
        finder.suggestion()
    finder.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_lr": 0},
        {"min_lr": 2.0},
        {"num_training": 2},
        {"num_training": 3.5},
        {"smoothing": 1},
        {"early_stop_threshold": 1},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ConfigError, match="LRFinder needs"):
        LRFinder(**wrong)


def test_a_spec_without_an_optimizer_is_refused():
    with pytest.raises(SpecError, match="no optimizer"):
        LRFinder().run("reference", TrainSpec(model=mlp(), loss=nn.MSELoss()), loader())
