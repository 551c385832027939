"""BatchSizeFinder: the largest batch that does not run out of memory; everything else stays as it was."""

from __future__ import annotations

import copy
import gc
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

from unitrain import (
    BatchSizeFinder,
    ConfigError,
    DataError,
    DataSpec,
    TrainSpec,
    UnifiedTrainer,
    UnsupportedFeatureError,
)
from unitrain.testing.trace import differences

ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
    "python": MemoryError(),
}


@pytest.fixture(autouse=True)
def no_collections(monkeypatch):
    """Collect no garbage: it takes most of the time of these tiny trials."""
    monkeypatch.setattr(
        "unitrain.tuning.finders.batch_size_finder.gc", SimpleNamespace(**vars(gc) | {"collect": lambda: 0})
    )


class Shared(list):
    """A list that copies of a model share."""

    def __deepcopy__(self, memo):
        return self


class Hungry(nn.Module):
    """A model that runs out of memory with more than so many samples, and notes the sizes it met."""

    def __init__(self, most=11, error="cuda"):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 1), nn.Dropout(0.5))
        self.most, self.error = most, Shared([error])
        self.sizes = Shared()

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        if len(inputs) > self.most:
            raise ERRORS.get(self.error[0], self.error[0])
        return self.layer(inputs)


def make_spec(*args, **changes):
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    return TrainSpec(**{"model": Hungry(*args), "loss": nn.MSELoss(), "optimizer": sgd, **changes})


def dataset(samples=100):
    return TensorDataset(torch.ones(samples, 4), torch.ones(samples, 1))


def make_loader(size, samples=100):
    return DataLoader(dataset(samples), batch_size=size, shuffle=True)


class Stream(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(4), torch.ones(1)


@pytest.mark.parametrize(
    ("arguments", "size", "tried"),
    [
        ({}, 8, [2, 4, 8, 16]),
        ({"mode": "binsearch"}, 11, [2, 4, 8, 16, 12, 10, 11]),
        ({"mode": "binsearch", "margin": 0.2}, 8, [2, 4, 8, 16, 12, 10, 11]),
        ({"init_val": 11}, 11, [11, 22]),
        ({"init_val": 100}, 6, [100, 50, 25, 12, 6]),
        ({"init_val": 100, "mode": "binsearch"}, 11, [100, 50, 25, 12, 6, 9, 10, 11]),
        ({"max_trials": 2}, 4, [2, 4]),
        ({"max_val": 7}, 7, [2, 4, 7]),
        ({"init_val": 1}, 8, [1, 2, 4, 8, 16]),
    ],
    ids=str,
)
def test_it_finds_the_largest_size(arguments, size, tried):
    finder = BatchSizeFinder(**arguments)
    assert finder.run("reference", make_spec(), make_loader) is finder
    assert finder.batch_size == size
    assert [one.batch_size for one in finder.trials] == tried
    assert all(one.fits == (one.batch_size <= 11) for one in finder.trials)


@pytest.mark.parametrize("error", ERRORS)
def test_each_kind_of_error_tells(framework, error):
    finder = BatchSizeFinder("binsearch", init_val=4).run(framework, make_spec(11, error), make_loader)
    assert [one.batch_size for one in finder.trials] == [4, 8, 16, 12, 10, 11]
    assert finder.batch_size == 11


def test_each_trial_takes_its_steps(framework):
    spec = make_spec(11)
    BatchSizeFinder(steps_per_trial=2, max_trials=3).run(framework, spec, make_loader)
    assert spec.model.sizes == [2, 2, 4, 4, 8, 8]


@pytest.mark.parametrize("samples", [5, 8])
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_the_dataset_bounds_the_size(framework, samples, mode):
    finder = BatchSizeFinder(mode).run(framework, make_spec(), partial(make_loader, samples=samples))
    assert finder.batch_size == samples
    assert "the largest size tried" in str(finder)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(dataset(), batch_size=3, shuffle=True, generator=torch.Generator().manual_seed(1)),
        DataLoader(dataset(), batch_size=3, drop_last=True),
        DataLoader(Stream(), batch_size=3),
        DataSpec(train=DataLoader(dataset(), batch_size=3)),
    ],
    ids=["shuffled", "sequential", "stream", "spec"],
)
def test_a_loader_is_copied_with_another_size(framework, loader):
    finder = BatchSizeFinder("binsearch").run(framework, make_spec(), loader)
    assert finder.batch_size == 11
    given = loader.train if isinstance(loader, DataSpec) else loader
    assert given.batch_size == given.batch_sampler.batch_size == 3


def test_nothing_is_moved(framework):
    spec = make_spec()
    spec = make_spec(model=spec.model, optimizer=torch.optim.SGD(spec.model.parameters(), lr=0.1, momentum=0.9))
    UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False).fit(spec, make_loader(5))
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(dataset(), batch_size=5, shuffle=True, generator=generator)
    before = copy.deepcopy((spec.model.state_dict(), spec.optimizer.state_dict(), torch.get_rng_state()))
    drawn = generator.get_state()
    modes = [module.training for module in spec.model.modules()]
    BatchSizeFinder().run(UnifiedTrainer(framework, accumulate_grad_batches=2), spec, loader)
    after = spec.model.state_dict(), spec.optimizer.state_dict(), torch.get_rng_state()
    assert not differences(before, after)
    assert torch.equal(generator.get_state(), drawn)
    assert [module.training for module in spec.model.modules()] == modes


def test_a_fault_that_trains_the_model_itself_is_seen(framework, monkeypatch):
    monkeypatch.setattr("unitrain.tuning.finders.batch_size_finder.bare_copy", lambda spec: spec)
    with pytest.raises(AssertionError):
        test_nothing_is_moved(framework)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), ValueError("bad"), KeyError("x")], ids=repr
)
def test_another_error_is_raised(framework, error):
    with pytest.raises(type(error)) as caught:
        BatchSizeFinder().run(framework, make_spec(3, error), make_loader)
    assert caught.value is error


def test_a_model_that_never_fits_is_refused(framework):
    finder = BatchSizeFinder(init_val=4)
    with pytest.raises(ConfigError, match="already at a batch size of 1"):
        finder.run(framework, make_spec(0), make_loader)
    assert str(finder) == "BatchSizeFinder: no batch size fits"
    assert str(BatchSizeFinder()) == "BatchSizeFinder: not run yet"


def test_the_result_is_printed(framework):
    lines = str(BatchSizeFinder(init_val=8).run(framework, make_spec(), make_loader)).splitlines()
    assert lines == ["batch_size=8", "     8 fits", "    16 out of memory"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "linear"}, "mode must be one of"),
        ({"steps_per_trial": 0}, "steps_per_trial"),
        ({"init_val": True}, "init_val"),
        ({"max_trials": 2.5}, "max_trials"),
        ({"margin": 1.0, "mode": "binsearch"}, "margin"),
        ({"margin": 0.1}, "no effect"),
        ({"init_val": 9, "max_val": 8}, "greater than max_val"),
    ],
    ids=str,
)
def test_an_invalid_argument_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words):
        BatchSizeFinder(**arguments)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([(torch.ones(2, 4), torch.ones(2, 1))], "a function; got a list"),
        (DataLoader(dataset(), batch_size=None), "with batch_size=None"),
        (
            DataLoader(
                dataset(), batch_sampler=type("Own", (BatchSampler,), {})(SequentialSampler(dataset()), 2, False)
            ),
            "a custom Own",
        ),
        (DataLoader, "a function; got a type"),
    ],
    ids=["list", "unbatched", "sampler", "class"],
)
def test_data_that_cannot_be_resized_is_refused(framework, data, words):
    with pytest.raises(DataError, match=words):
        BatchSizeFinder().run(framework, make_spec(), data)


def test_several_processes_are_refused():
    trainer = UnifiedTrainer("reference", devices=2, accelerator="cpu")
    with pytest.raises(UnsupportedFeatureError, match="a single process"):
        BatchSizeFinder().run(trainer, make_spec(), make_loader)
