"""Samplers, datasets and transforms with random states of their own: a resumed run continues them."""

from __future__ import annotations

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from tests.checkpoint.own_random import (
    BACKENDS,
    BATCHES,
    GENERATORS,
    LOADERS,
    Lazy,
    Noise,
    Rows,
    X,
    Y,
    drawn,
    each_backend,
    fit,
    same,
    with_slow,
)
from unitrain import CheckpointError, CombinedLoader
from unitrain.data import own_random as of_core
from unitrain.loop import fit as fit_loop
from unitrain.utilities import rng


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
    assert fit_loop.OwnRandom([make()]).states() == {}


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
@pytest.mark.parametrize("kind", with_slow(OTHERS, "none", "other bits"))
def test_one_that_is_new_or_gone_is_left_as_it_is_and_told(framework, kind, tmp_path):
    path, back = tmp_path / "x.ckpt", tmp_path / "back.ckpt"
    fit("reference", LOADERS["sampler"](random.Random(3)), at=BATCHES + 2, path=path)
    with pytest.warns(UserWarning, match=r"0\.batch_sampler\.own.*which cannot be restored.* not continued"):
        fit(framework, OTHERS[kind](), ckpt_path=path, at=2 * BATCHES, path=back)
    with pytest.warns(UserWarning, match=r"0\.batch_sampler\.own.* not continued"):
        fit(framework, LOADERS["sampler"](random.Random(3)), ckpt_path=back)


@each_backend
def test_one_whose_place_cannot_be_made_is_told(framework, tmp_path):
    class Late(Lazy):
        def own(self):
            self.made = getattr(self, "made", None) or (random.Random(3),)
            return self.made[0]

    path = tmp_path / "x.ckpt"
    fit(framework, DataLoader(Late(), 3), at=BATCHES + 2, path=path)
    with pytest.warns(UserWarning, match=r"0\.dataset\.made\[0\], which cannot be restored"):
        fit(framework, DataLoader(Late(), 3), ckpt_path=path)


def test_a_subclass_is_not_replaced_by_its_base(tmp_path):
    class Twice(random.Random):
        def random(self):
            return 2 * super().random()

    class Late(Lazy):
        def own(self):
            if self.rng is None:
                self.rng = Twice(3)
            return self.rng

    path = tmp_path / "x.ckpt"
    fit("ignite", DataLoader(Late(), 3), at=BATCHES + 2, path=path)
    with pytest.warns(UserWarning, match=r"0\.dataset\.rng, which cannot be restored"):
        fit("ignite", DataLoader(Late(), 3), ckpt_path=path)


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gone", [True, False])
def test_those_of_a_validation_may_be_new_or_gone(framework, gone, tmp_path):
    path, batches = tmp_path / "x.ckpt", list(LOADERS["sampler"](random.Random(1)))
    val = DataLoader(Rows(Noise(random.Random(3))), 3)
    whole = fit(framework, batches, val if gone else None, at=BATCHES + 2, path=path)
    resumed = fit(framework, batches, None if gone else val, ckpt_path=path)
    assert all(map(torch.equal, whole[0].values(), resumed[0].values()))
    with pytest.warns(UserWarning, match="in the validation data") if gone else nullcontext():
        assert not same(fit(framework, batches, [DataLoader(Rows(), 3), val], ckpt_path=path), resumed)


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
