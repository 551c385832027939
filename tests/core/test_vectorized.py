"""A vectorized loader has the batches of the loader it was made of, and leaves the random numbers as that does."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)

from unitrain import DataError, vectorized
from unitrain.data.sharding import shard
from unitrain.distributed.collectives import Collectives

COUNT = 11


def inputs():
    return torch.randn(COUNT, 3, 4, generator=torch.Generator().manual_seed(0))


def labels():
    return torch.arange(COUNT)


def plain():
    return TensorDataset(inputs(), labels())


def layouts():
    """Return what is easily gathered into another memory format, or dtype."""
    images = torch.randn(COUNT, 4, 5, 3).permute(0, 3, 1, 2)
    gray = torch.rand(COUNT, 1, 4, 5).to(memory_format=torch.channels_last)
    scalars = torch.rand(2 * COUNT, dtype=torch.float64)[::2]
    column, empty = torch.rand(4, COUNT).T, torch.rand(COUNT, 0)
    kinds = [torch.ones(COUNT, 2, dtype=dtype) for dtype in (torch.bool, torch.uint8, torch.bfloat16, torch.complex64)]
    return TensorDataset(images, gray, scalars, column, empty, torch.rand(1, 4).expand(COUNT, 4), *kinds)


DATASETS = {
    "pair": plain,
    "layouts": layouts,
    "one tensor": lambda: TensorDataset(inputs()),
    "a tensor itself": inputs,
    "split": lambda: random_split(plain(), [8, 3], torch.Generator().manual_seed(2))[0],
    "subset of a subset": lambda: Subset(Subset(plain(), range(9, 0, -1)), torch.tensor([3, 1, 1, 0, 8])),
    "mapping": lambda: StackDataset(input=inputs(), target=labels()),
    "stack of datasets": lambda: StackDataset(Subset(plain(), range(COUNT)), TensorDataset(labels())),
}


def same(left, right):
    """Return whether two batches are alike in containers, bits and memory format."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        forms = [(one.dtype, one.shape, one.stride(), one.storage_offset()) for one in (left, right)]
        return forms[0] == forms[1] and torch.equal(left, right)
    if isinstance(left, Mapping):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return len(left) == len(right) and all(map(same, left, right))


def read(loader, epochs=2):
    """Return the batches of some epochs, and the random number that follows."""
    torch.manual_seed(5)
    batches = []
    for epoch in range(epochs):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        batches.append(list(loader))
    return batches, torch.rand(())


def assert_same(make):
    expected, got = read(make()), read(vectorized(make()))
    assert expected[0][0]
    assert same(expected, got)


@settings(max_examples=60, deadline=None)
@given(
    dataset=st.sampled_from(list(DATASETS)),
    batch_size=st.integers(1, COUNT),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.none() | st.integers(0, 99),
)
def test_batches_and_draws_are_those_of_the_loader(dataset, batch_size, shuffle, drop_last, seed):
    torch.manual_seed(1)
    data = DATASETS[dataset]()

    def make():
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return DataLoader(data, batch_size, shuffle=shuffle, drop_last=drop_last, generator=generator)

    assert same(read(make()), read(vectorized(make())))


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_kind_of_dataset_is_gathered(dataset):
    data = DATASETS[dataset]()
    assert_same(lambda: DataLoader(data, 4, shuffle=True))


SAMPLERS = {
    "distributed": lambda data: {"sampler": DistributedSampler(data, 2, 1, seed=3), "batch_size": 4},
    "weighted": lambda data: {"sampler": WeightedRandomSampler([1.0] * len(data), 20), "batch_size": 4},
    "indices that are tensors": lambda _: {"sampler": SubsetRandomSampler(torch.tensor([7, 2, 9])), "batch_size": 2},
    "list of batches": lambda _: {"batch_sampler": [[0, 5], [10], [3, 3, 3]]},
    "batches that are tensors": lambda _: {"batch_sampler": torch.tensor([[0, 5], [3, 3]])},
    "batch sampler": lambda data: {"batch_sampler": BatchSampler(torch.utils.data.RandomSampler(data), 4, True)},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_are_kept(sampler):
    data = plain()
    assert_same(lambda: DataLoader(data, **SAMPLERS[sampler](data)))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_are_kept(persistent):
    data = plain()
    assert_same(lambda: DataLoader(data, 4, shuffle=True, num_workers=2, persistent_workers=persistent))


def test_a_loader_with_running_workers_is_left_alone():
    loader = DataLoader(plain(), 4, num_workers=1, persistent_workers=True)
    before = list(loader)
    assert same(list(vectorized(loader)), before)
    assert same(list(loader), before)


@pytest.mark.parametrize("stage", ["train", "val"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_it_out_alike(stage, rank, shuffle):
    team, data = Collectives(), plain()
    team.rank, team.size = rank, 2
    expected = shard(DataLoader(data, 2, shuffle=shuffle), stage, team, seed=4)
    got = shard(vectorized(DataLoader(data, 2, shuffle=shuffle)), stage, team, seed=4)
    assert same(read(expected), read(got))


def test_other_settings_are_kept():
    loader = DataLoader(plain(), 4, drop_last=True, num_workers=2, timeout=9, prefetch_factor=3, in_order=False)
    kept = vars(vectorized(loader))
    changed = {name for name, value in vars(loader).items() if kept[name] is not value}
    assert changed == {"dataset", "collate_fn"}
    assert (len(vectorized(loader)), len(kept["dataset"])) == (len(loader), COUNT)


def test_it_travels_to_other_processes():
    loader = pickle.loads(pickle.dumps(vectorized(DataLoader(plain(), 4))))
    assert same(list(loader), list(DataLoader(plain(), 4)))


def test_a_sample_is_the_datasets_own():
    loader = vectorized(DataLoader(plain(), 4))
    assert same(loader.dataset[3], plain()[3])


def test_no_index_is_no_item():
    """As of any dataset; a run that goes on skips by a batch without indices."""
    assert vectorized(DataLoader(plain(), 4)).dataset.__getitems__([]) == []


def test_an_index_outside_is_an_error():
    with pytest.raises(IndexError):
        list(vectorized(DataLoader(plain(), batch_sampler=[[COUNT]])))


class Computing(TensorDataset):
    def __getitem__(self, index):
        return super().__getitem__(index)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(plain())


class OwnLoader(DataLoader):
    pass


def collate(samples):
    return default_collate(samples)


REFUSED = {
    "a list": (lambda: [1], "got a list"),
    "a dataset": (plain, "got a TensorDataset"),
    "a loader of one's own": (lambda: OwnLoader(plain()), "got a OwnLoader, which may read differently"),
    "twice": (lambda: vectorized(DataLoader(plain())), "vectorized already"),
    "a stream": (lambda: DataLoader(Stream()), "over a Stream, an IterableDataset"),
    "no batches": (lambda: DataLoader(plain(), batch_size=None), "batch_size=None"),
    "collate_fn": (lambda: DataLoader(plain(), collate_fn=collate), "collate_fn=collate"),
    "a dataset that computes": (lambda: DataLoader(Computing(inputs())), "is or contains a Computing"),
    "a part that computes": (lambda: DataLoader(StackDataset(Computing(inputs()))), "is or contains a Computing"),
    "a list of samples": (lambda: DataLoader([(1, 2)]), "is or contains a list"),
    "datasets in a row": (lambda: DataLoader(ConcatDataset([plain()])), "is or contains a ConcatDataset"),
    "a parameter": (lambda: DataLoader(torch.nn.Parameter(inputs())), "has a custom class"),
    "gradients": (lambda: DataLoader(TensorDataset(inputs().requires_grad_())), "requires grad"),
    "sparse": (lambda: DataLoader(TensorDataset(inputs().to_sparse())), "is sparse or nested"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_more_than_rows_is_refused(name):
    make, reason = REFUSED[name]
    given_loader = make()
    with pytest.raises(DataError, match=reason) as caught:
        vectorized(given_loader)
    assert "Hint: " in str(caught.value)


FAULTS = {
    "another memory format": ("layouts", lambda tensor, _, index: tensor[index]),
    "another order": ("pair", lambda tensor, dim, index: torch.index_select(tensor, dim, index.flip(0))),
    "a view": ("one tensor", lambda tensor, *_: tensor[:4]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_gathering_is_noticed(fault, monkeypatch):
    """Negative control: the comparison sees values, order and memory format."""
    dataset, wrong = FAULTS[fault]
    data = DATASETS[dataset]()
    monkeypatch.setattr(torch.Tensor, "index_select", wrong)
    with pytest.raises(AssertionError):
        assert_same(lambda: DataLoader(data, 4, shuffle=True))
