"""Random states that data makes late, or keeps in containers, are found and continued."""

from __future__ import annotations

import operator
import random
import time
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from tests.checkpoint.own_random import (
    BACKENDS,
    BATCHES,
    LOADERS,
    Lazy,
    Noise,
    Order,
    Rows,
    drawn,
    each_backend,
    fit,
    same,
    with_slow,
)
from unitrain import CombinedLoader
from unitrain.checkpoint import restore
from unitrain.data import own_random as of_core
from unitrain.loop import fit as fit_loop


class NoAttribute(Lazy):
    def own(self):
        if not hasattr(self, "_made"):
            self._made = random.Random(3)
        return self._made


class Cached(Lazy):
    @cached_property
    def made(self):
        return torch.Generator().manual_seed(3)

    def own(self):
        return self.made


class ByName(Lazy):
    def __init__(self):
        super().__init__()
        self.made = {"other": 1}

    def own(self):
        return self.made.setdefault("it's", np.random.RandomState(3))


class LateOrder(Order):
    """Makes what it shuffles with when it is first iterated."""

    def __init__(self, name):
        self.name = name
        setattr(self, name, None)

    @property
    def own(self):
        if getattr(self, self.name) is None:
            setattr(self, self.name, torch.Generator().manual_seed(3))
        return getattr(self, self.name)


LAZY = {
    "none": lambda: DataLoader(Lazy(), 3),
    "no attribute": lambda: DataLoader(NoAttribute(), 3),
    "cached": lambda: DataLoader(Cached(), 3),
    "by name": lambda: DataLoader(ByName(), 3),
    "sampler": lambda: DataLoader(Rows(), batch_sampler=LateOrder("_rng")),
    "generator": lambda: DataLoader(Rows(), batch_sampler=LateOrder("generator")),
    "combined": lambda: CombinedLoader([DataLoader(Lazy(), 3), DataLoader(NoAttribute(), 2)], "max_size_cycle"),
}


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("at", [2, pytest.param(BATCHES, marks=pytest.mark.slow), BATCHES + 2])
@pytest.mark.parametrize("kind", with_slow(LAZY, "no attribute", "cached", "by name", "combined"))
def test_one_that_is_made_only_once_the_data_is_read_goes_on(framework, kind, at, tmp_path):
    path, other = tmp_path / "x.ckpt", BACKENDS[BACKENDS.index(framework) - 1]
    whole = fit(framework, LAZY[kind](), at=at, path=path)
    assert same(fit(other, LAZY[kind](), ckpt_path=path), whole)


@each_backend
@pytest.mark.filterwarnings("error")
def test_one_of_a_validation_that_is_made_late_goes_on(framework, tmp_path):
    path, batches = tmp_path / "x.ckpt", list(LOADERS["sampler"](random.Random(1)))
    whole = fit(framework, batches, DataLoader(Lazy(), 3), at=BATCHES + 2, path=path)
    assert same(fit(framework, batches, DataLoader(Lazy(), 3), ckpt_path=path), whole)
    assert len({row["val/loss"] for row in whole[1]}) == 3


@pytest.mark.parametrize("kind", ["none", "sampler"])
def test_without_one_that_is_put_there_it_would_begin_anew(kind, tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    whole = fit("ignite", LAZY[kind](), at=BATCHES + 2, path=path)
    monkeypatch.setattr(of_core, "_free", lambda holders, place: lambda one: None)
    assert not same(fit("ignite", LAZY[kind](), ckpt_path=path), whole)


def test_one_put_there_too_early_would_be_noticed(tmp_path, monkeypatch):
    """Within the first epoch: the order was drawn by a fresh one."""
    path = tmp_path / "x.ckpt"
    whole = fit("ignite", LAZY["sampler"](), at=2, path=path)
    monkeypatch.setattr(restore, "take_up", lambda progress, job: original(replace(progress, midway=False), job))
    original = fit_loop.take_up
    monkeypatch.setattr(fit_loop, "take_up", restore.take_up)
    assert not same(fit("ignite", LAZY["sampler"](), ckpt_path=path), whole)


class Holding:
    """A transform that draws from the first generator in what it holds."""

    def __init__(self, held, find):
        self.held, self.find = held, find

    def __call__(self, sample):
        return sample + drawn(self.find(self.held))


class OfTheClass:
    own = None

    def __call__(self, sample):
        return sample + drawn(self.own)


class Slotted:
    __slots__ = ("own",)

    def __init__(self, generator):
        self.own = generator


def of_the_class(generator):
    return type("Fresh", (OfTheClass,), {"own": generator})()


def collated(generator, items):
    x, y = default_collate(items)
    return x + drawn(generator), y


def with_default(generator):
    return lambda sample, own=generator: sample + drawn(own)


FIRST = operator.itemgetter(0)
HELD = {
    "list": lambda generator: Holding([generator], FIRST),
    "tuple": lambda generator: Holding((generator,), FIRST),
    "dict": lambda generator: Holding({"a": generator}, operator.itemgetter("a")),
    "nested": lambda generator: Holding({"a": [(0, generator)]}, lambda held: held["a"][0][1]),
    "inner": lambda generator: Holding(Order(generator), operator.attrgetter("own")),
    "slots": lambda generator: Holding(Slotted(generator), operator.attrgetter("own")),
    "closure": lambda generator: lambda sample: sample + drawn(generator),
    "default": with_default,
    "method": lambda generator: Noise(generator).__call__,
    "class": of_the_class,
    "module": lambda generator: nn.Sequential(nn.Identity(), Inner(generator)),
}


class Inner(nn.Module):
    def __init__(self, generator):
        super().__init__()
        self.own = generator

    def forward(self, sample):
        return sample + drawn(self.own)


def held(kind):
    return DataLoader(Rows(HELD[kind](random.Random(3))), 3)


@each_backend
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", with_slow(HELD, *(HELD.keys() - {"list", "dict", "closure"})))
def test_one_in_a_container_goes_on(framework, kind, tmp_path):
    path = tmp_path / "x.ckpt"
    whole = fit(framework, held(kind), at=BATCHES + 2, path=path)
    assert same(fit(framework, held(kind), ckpt_path=path), whole)


@each_backend
@pytest.mark.filterwarnings("error")
def test_one_that_collates_goes_on(framework, tmp_path):
    path = tmp_path / "x.ckpt"
    make = lambda: DataLoader(Rows(), 3, collate_fn=partial(collated, random.Random(3)))  # noqa: E731
    whole = fit(framework, make(), at=BATCHES + 2, path=path)
    assert same(fit(framework, make(), ckpt_path=path), whole)


@pytest.mark.parametrize("kind", HELD)
def test_each_place_is_found_and_stays_the_same(kind):
    places = [list(of_core.OwnRandom([loader]).states()) for loader in (held(kind), held(kind))]
    assert places[0] == places[1]
    assert len(places[0]) == 1


def test_without_the_containers_they_would_begin_anew(tmp_path, monkeypatch):
    path, within = tmp_path / "x.ckpt", of_core._within
    monkeypatch.setattr(of_core, "_within", lambda part: () if isinstance(part, list) else within(part))
    whole = fit("ignite", held("list"), at=BATCHES + 2, path=path)
    assert not same(fit("ignite", held("list"), ckpt_path=path), whole)


class AttrDict(dict):
    def __init__(self, **values):
        super().__init__(values)
        self.__dict__ = self


class Base:
    __slots__ = ("__dict__", "_rng", "unset")


class Derived(Base):
    __slots__ = ("more",)


class Strict(Derived):
    def __getattr__(self, name):
        raise KeyError(name)


class Refusing:
    """Counts the user's code that a search would run."""

    ran = 0

    @property
    def __class__(self):
        Refusing.ran += 1
        return list

    def run(self, *arguments):
        Refusing.ran += 1
        raise RuntimeError


class OwnList(Refusing, list):
    __iter__ = Refusing.run


class OwnDict(Refusing, dict):
    items = get = Refusing.run


def with_slots(cls, generator):
    made = cls()
    made._rng = generator
    return made


ODD = {
    "own dict": lambda generator: filled(AttrDict(own=generator), {0: 1, (1, 2): 3}),
    "slots of a base": lambda generator: with_slots(Derived, generator),
    "unset slots": lambda generator: with_slots(Strict, generator),
    "list": lambda generator: OwnList([generator]),
    "dict": lambda generator: OwnDict(a=generator),
}


def filled(held, more):
    dict.update(held, more)
    return held


@pytest.mark.parametrize("kind", ODD)
def test_one_in_an_odd_object_is_found_without_running_its_code(kind):
    Refusing.ran = 0
    own = of_core.OwnRandom([DataLoader(Rows(ODD[kind](random.Random(3))), 3)])
    saved = own.states()
    assert len(saved) == 1
    assert own.differing(saved) == ([], [])
    assert Refusing.ran == 0


ALIASES = {
    "python": lambda: random.random.__self__,
    "numpy": lambda: np.random.mtrand._rand,
    "torch": lambda: torch.default_generator,
}


@pytest.mark.parametrize("kind", ALIASES)
def test_another_name_of_a_global_generator_is_none_of_its_own(kind):
    assert not of_core.OwnRandom([held_by(ALIASES[kind]())]).states()


def held_by(generator):
    return DataLoader(Rows(Noise(generator)), 3)


def test_a_long_list_is_not_walked():
    rows = Rows()
    rows.many = [1] * 3_000_000
    began = time.process_time()
    of_core.OwnRandom([DataLoader(rows, 3)]).states()
    assert time.process_time() - began < 0.02  # to walk it takes 0.07


def test_data_that_holds_itself_or_very_much_is_looked_at_in_time():
    rows = Rows(Noise(random.Random(3)))
    rows.itself, rows.many = rows, [[{str(n): Noise(n)} for n in range(200)] for _ in range(200)]
    began = time.perf_counter()
    assert list(of_core.OwnRandom([DataLoader(rows, 3)]).states()) == ["0.dataset.transform.own"]
    assert time.perf_counter() - began < 1
