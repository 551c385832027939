"""Samplers, datasets and transforms with random states of their own: a resumed run continues them."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from unitrain import CheckpointError, CombinedLoader, Event, TrainSpec, UnifiedTrainer
from unitrain.data import own_random as of_core
from unitrain.loop import fit as fit_loop
from unitrain.utilities import rng

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)
X, Y = torch.randn(2, 12, 4, generator=torch.Generator().manual_seed(1))
BATCHES = 4
"""Of three samples each."""

GENERATORS = {
    "python": lambda: random.Random(3),
    "numpy": lambda: np.random.default_rng(3),
    "mt19937": lambda: np.random.Generator(np.random.MT19937(3)),
    "philox": lambda: np.random.Generator(np.random.Philox(3)),
    "legacy": lambda: np.random.RandomState(3),
    "torch": lambda: torch.Generator().manual_seed(3),
}


def drawn(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand((), generator=generator).item()
    return generator.random() if hasattr(generator, "random") else generator.random_sample()


class Order:
    """A batch sampler that shuffles with a generator of its own."""

    def __init__(self, generator):
        self.own = generator

    def __iter__(self):
        order = sorted(range(12), key={number: drawn(self.own) for number in range(12)}.get)
        return iter([order[number : number + 3] for number in range(0, 12, 3)])

    def __len__(self):
        return BATCHES


class Noise:
    def __init__(self, generator):
        self.own = generator

    def __call__(self, sample):
        return sample + drawn(self.own)


class Rows(Dataset):
    def __init__(self, transform=None):
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return (X[index] if self.transform is None else self.transform(X[index])), Y[index, :1]


class Stream(IterableDataset):
    def __init__(self, generator):
        self.own = generator

    def __iter__(self):
        return ((X[index] + drawn(self.own), Y[index, :1]) for index in range(12))


LOADERS = {
    "sampler": lambda generator: DataLoader(Rows(), batch_sampler=Order(generator)),
    "transform": lambda generator: DataLoader(Subset(Rows([Noise(generator)][0]), range(12)), 3, shuffle=True),
    "stream": lambda generator: DataLoader(Stream(generator), 3),
    "combined": lambda generator: CombinedLoader([DataLoader(Rows(), batch_sampler=Order(generator))]),
}


def step(model, batch):
    x, y = batch[0] if len(batch) == 1 else batch
    return nn.functional.mse_loss(model(x), y)


def spec():
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    return TrainSpec(model=nn.Linear(4, 1), optimizer=sgd, training_step=step, validation_step=step, batch_size=3)


def fit(framework, loader, val=None, *, at=0, path=None, ckpt_path=None):
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=0, enable_progress_bar=False)

    def save(run):
        if run.state.batch == at:
            run.save_checkpoint(path)

    trainer.on(Event.BATCH_END, save)
    what = spec()
    result = trainer.fit(what, loader, val, ckpt_path=ckpt_path)
    return what.model.state_dict(), result.history


def same(one, other):
    return all(map(torch.equal, one[0].values(), other[0].values())) and one[1] == other[1]


@each_backend
@pytest.mark.parametrize("at", [BATCHES, BATCHES + 2], ids=["end", "middle"])
@pytest.mark.parametrize(
    ("kind", "generator"),
    [
        ("sampler", "python"),
        ("transform", "numpy"),
        *(pytest.param("sampler", name, marks=pytest.mark.slow) for name in GENERATORS if name != "python"),
        pytest.param("stream", "python", marks=pytest.mark.slow),
        pytest.param("combined", "numpy", marks=pytest.mark.slow),
    ],
)
def test_a_random_state_of_ones_own_goes_on(framework, kind, generator, at, tmp_path):
    path, other = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1]
    make = lambda: LOADERS[kind](GENERATORS[generator]())  # noqa: E731 - a loader as a script makes it
    whole = fit(framework, make(), at=at, path=path)
    assert same(fit(other, make(), ckpt_path=path), whole)


@each_backend
@pytest.mark.parametrize("at", [BATCHES, BATCHES + 2], ids=["end", "middle"])
def test_that_of_a_validation_goes_on(framework, at, tmp_path):
    path, batches = tmp_path / "x.ckpt", list(LOADERS["sampler"](random.Random(1)))
    val = lambda: DataLoader(Rows(Noise(np.random.default_rng(3))), 3)  # noqa: E731 - a loader as a script makes it
    whole = fit(framework, batches, val(), at=at, path=path)
    assert same(fit(framework, batches, val(), ckpt_path=path), whole)
    assert len({row["val/loss"] for row in whole[1]}) == 3


@pytest.mark.parametrize("at", [BATCHES, BATCHES + 2])
def test_without_its_state_it_would_begin_anew(at, tmp_path, monkeypatch):
    path, make = tmp_path / "x.ckpt", lambda: LOADERS["sampler"](random.Random(3))
    monkeypatch.setattr(of_core, "kind_of", lambda _: None)
    whole = fit("ignite", make(), at=at, path=path)
    assert not same(fit("ignite", make(), ckpt_path=path), whole)
    assert fit_loop.own_random([make()]) == {}


def with_slow(names, *slow):
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


class Lazy(Rows):
    """Makes its generator when it is first read."""

    rng = None

    def __getitem__(self, index):
        if self.rng is None:
            self.rng = np.random.default_rng(3)
        x, y = super().__getitem__(index)
        return x + drawn(self.rng), y


class Anew:
    """A sampler that makes a generator for each epoch, under a name of the user's choice."""

    epoch = 0

    def __init__(self, name):
        self.name = name

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        setattr(self, self.name, torch.Generator().manual_seed(self.epoch))
        return iter(torch.randperm(12, generator=getattr(self, self.name)).tolist())

    def __len__(self):
        return 12


class Streaming(IterableDataset):
    def __iter__(self):
        self.rng = random.Random(5)
        return ((X[index] + drawn(self.rng), Y[index, :1]) for index in range(12))


MADE_LATE = {
    "generator": lambda: DataLoader(Rows(), 3, sampler=Anew("generator")),
    "own": lambda: DataLoader(Rows(), 3, sampler=Anew("own")),
    "stream": lambda: DataLoader(Streaming(), 3),
    "combined": lambda: CombinedLoader([DataLoader(Rows(), 3, sampler=Anew("generator"))]),
}


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", [BATCHES, BATCHES + 2], ids=["end", "middle"])
@pytest.mark.parametrize("kind", with_slow(MADE_LATE, "combined"))
def test_one_that_is_made_as_the_data_is_read_is_no_obstacle(framework, kind, at, tmp_path):
    path, other = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1]
    whole = fit(framework, MADE_LATE[kind](), at=at, path=path)
    assert same(fit(other, MADE_LATE[kind](), ckpt_path=path), whole)


@each_backend
@pytest.mark.filterwarnings("error")
def test_one_that_is_made_by_the_first_sample_goes_on_where_it_was_made_before(framework, tmp_path):
    path, warm = tmp_path / "x.ckpt", Lazy()
    whole = fit(framework, DataLoader(Lazy(), 3), at=BATCHES + 2, path=path)
    fit(framework, DataLoader(Lazy(), 3), ckpt_path=path)
    warm[0]
    assert same(fit(framework, DataLoader(warm, 3), ckpt_path=path), whole)


def without_state():
    class Counting(random.Random):
        def getstate(self):
            return {"count": 1}

    return Counting(3)


OTHERS = {
    "none": lambda: DataLoader(Rows(), 3),
    "another kind": lambda: LOADERS["sampler"](np.random.default_rng(3)),
    "another place": lambda: LOADERS["transform"](random.Random(3)),
    "the system's": lambda: LOADERS["sampler"](random.SystemRandom()),
    "a class of one's own": lambda: LOADERS["sampler"](without_state()),
    "other bits": lambda: LOADERS["sampler"](np.random.RandomState(np.random.PCG64(3))),
}


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", with_slow(OTHERS, "none", "other bits"))
def test_one_that_is_new_or_gone_is_left_as_it_is(framework, kind, tmp_path):
    path, back = tmp_path / "x.ckpt", tmp_path / "back.ckpt"
    fit("reference", LOADERS["sampler"](random.Random(3)), at=BATCHES + 2, path=path)
    fit(framework, OTHERS[kind](), ckpt_path=path, at=2 * BATCHES, path=back)
    fit(framework, LOADERS["sampler"](random.Random(3)), ckpt_path=back)


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gone", [True, False])
def test_those_of_a_validation_may_be_new_or_gone(framework, gone, tmp_path):
    path, batches = tmp_path / "x.ckpt", list(LOADERS["sampler"](random.Random(1)))
    val = DataLoader(Rows(Noise(random.Random(3))), 3)
    whole = fit(framework, batches, val if gone else None, at=BATCHES + 2, path=path)
    resumed = fit(framework, batches, None if gone else val, ckpt_path=path)
    assert all(map(torch.equal, whole[0].values(), resumed[0].values()))
    assert same(fit(framework, batches, [DataLoader(Rows(), 3), val], ckpt_path=path), resumed) is False


@each_backend
@pytest.mark.parametrize("stage", ["train", "val"])
def test_a_state_that_is_damaged_is_told_before_training(framework, stage, tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", *(LOADERS["sampler"](random.Random(3)) for _ in range(2)), at=BATCHES, path=path)
    content = torch.load(path, weights_only=True)
    progress = content["unitrain"]["progress"]
    (place,) = kept = progress["rng"]["own"] if stage == "train" else progress["val_rng"]
    kept[place][1][1] = [1]
    torch.save(content, path)
    before = random.getstate()
    with pytest.raises(CheckpointError, match="its contents are not as unitrain writes them"):
        fit(framework, *(LOADERS["sampler"](random.Random(3)) for _ in range(2)), ckpt_path=path)
    assert random.getstate() == before


def test_without_its_kind_the_state_of_another_would_be_put_back(tmp_path):
    path = tmp_path / "x.ckpt"
    fit("reference", LOADERS["sampler"](random.Random(3)), at=BATCHES, path=path)
    content = torch.load(path, weights_only=True)
    for kept in content["unitrain"]["progress"]["rng"]["own"].values():
        kept[0] = "Generator(PCG64)"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="its contents are not as unitrain writes them"):
        fit("ignite", LOADERS["sampler"](np.random.default_rng(3)), ckpt_path=path)


def test_each_kind_has_a_name_of_its_own():
    kinds = [rng.kind_of(make()) for make in GENERATORS.values()]
    assert len(set(kinds)) == len(kinds)
    assert None not in kinds
