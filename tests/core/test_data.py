"""From what a user gives as data to batches: kinds, limits, laziness and refusals."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from unitrain import ConfigError, DataError, DataSpec, Event
from unitrain.data.batches import Batches
from unitrain.data.sources import DataSource

FRAMEWORKS = ("reference", "lightning", "ignite")
CPU = torch.device("cpu")


def tensors(count):
    return TensorDataset(torch.arange(float(count * 4)).reshape(count, 4), torch.zeros(count, 1))


class Stream(IterableDataset):
    """Yields ``count`` samples and may say another number."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return ((torch.full((4,), float(index)), torch.zeros(1)) for index in range(self.count))


class LyingStream(Stream):
    def __init__(self, count, says):
        super().__init__(count)
        self.says = says

    def __len__(self):
        return self.says


class Unsized:
    """Can be iterated once an epoch and has no length."""

    def __init__(self, batches):
        self.batches = batches
        self.opened = 0

    def __iter__(self):
        self.opened += 1
        return iter(self.batches)


class Sized(Unsized):
    def __init__(self, batches, says):
        super().__init__(batches)
        self.says = says

    def __len__(self):
        if isinstance(self.says, int):
            return self.says
        raise self.says


def seen_by(trainer, spec, *data):
    """Fit and return, for each epoch, the sizes of its batches and whether the run knew which was the last."""
    epochs = []
    trainer.on(Event.EPOCH_START, lambda: epochs.append([]))
    trainer.on(Event.BATCH_START, lambda run: epochs[-1].append(run.state.batch))
    result = trainer.fit(spec, *data)
    return [len(epoch) for epoch in epochs], result


KINDS = {
    "loader": lambda: DataLoader(tensors(10), batch_size=4),
    "loader with drop_last": lambda: DataLoader(tensors(14), batch_size=4, drop_last=True),
    "list": lambda: list(DataLoader(tensors(10), batch_size=4)),
    "tuple": lambda: tuple(DataLoader(tensors(10), batch_size=4)),
    "iterable without length": lambda: Unsized(list(DataLoader(tensors(10), batch_size=4))),
    "iterable with length": lambda: Sized(list(DataLoader(tensors(10), batch_size=4)), 3),
    "iterable whose length is an error": lambda: Sized(list(DataLoader(tensors(10), batch_size=4)), TypeError()),
    "iterable whose length is not implemented": lambda: Sized(
        list(DataLoader(tensors(10), batch_size=4)), NotImplementedError()
    ),
    "loader of a stream": lambda: DataLoader(Stream(10), batch_size=4),
    "stream of batches": lambda: Stream(3),
    "DataSpec": lambda: DataSpec(train=DataLoader(tensors(10), batch_size=4)),
    "map of a loader": lambda: [{"input": x, "target": y} for x, y in DataLoader(tensors(10), batch_size=4)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_its_three_batches_each_epoch(make_trainer, make_spec, kind):
    assert seen_by(make_trainer(), make_spec(), KINDS[kind]())[0] == [3, 3]


@pytest.mark.filterwarnings("ignore:Length of IterableDataset.*:UserWarning")
@pytest.mark.parametrize("says", [0, 1, 4, 100])
def test_wrong_length_of_a_stream_is_not_trusted(make_trainer, make_spec, says):
    loader = DataLoader(LyingStream(10, says=says), batch_size=4)
    trainer = make_trainer(accumulate_grad_batches=2)
    batches, result = seen_by(trainer, make_spec(), loader)
    assert (batches, result.step) == ([3, 3], 4)  # the third batch was known to be the last: it stepped


def test_length_that_promises_too_much_is_refused(make_batches):
    source = DataSource(Sized(make_batches(2), says=5), "train", 1.0)
    with pytest.raises(DataError, match=r"reported a length of 5 batches, but ended after 2[\s\S]*__len__"):
        list(Batches(source, lambda: 0))


@pytest.mark.parametrize("train", [True, False], ids=["training", "validation"])
def test_one_shot_generator_is_refused_when_it_is_exhausted(make_trainer, make_spec, make_batches, train):
    once = (batch for batch in make_batches())
    with pytest.raises(DataError) as caught:
        make_trainer(max_epochs=2).fit(make_spec(), *((once,) if train else (make_batches(), once)))
    assert ("train" if train else "val") in str(caught.value)


def test_one_shot_generator_lasts_for_one_epoch(make_trainer, make_spec, make_batches):
    once, again = (batch for batch in make_batches()), (batch for batch in make_batches())
    result = make_trainer(max_epochs=1).fit(make_spec(), once, again)
    assert (result.step, "val/loss" in result.metrics) == (3, True)


NESTED = {
    "dict": lambda x, y: {"input": x, "target": y},
    "list": lambda x, y: [x, y],
    "input of several": lambda x, y: ((x, {"scale": torch.ones(len(x), 1)}), y),
    "more keys": lambda x, y: {"input": x, "target": y, "id": ["a"] * len(x)},
}


class Nested(nn.Linear):
    def forward(self, given):
        if isinstance(given, tuple):
            return super().forward(given[0]) * given[1]["scale"]
        return super().forward(given)


@pytest.mark.parametrize("kind", NESTED)
def test_batch_of_any_structure_trains_as_the_pair_does(make_trainer, make_spec, make_batches, kind):
    weights = []
    for shape in (lambda x, y: (x, y), NESTED[kind]):
        torch.manual_seed(3)
        spec = make_spec(model=Nested(4, 1))
        result = make_trainer().fit(
            spec, [shape(x, y) for x, y in make_batches(3, last=3)], [shape(*make_batches(1)[0])]
        )
        weights.append((spec.model.weight, result.metrics))
    assert torch.equal(weights[0][0], weights[1][0])
    assert weights[0][1] == weights[1][1]


def test_batch_of_any_structure_goes_to_a_custom_step(make_trainer, make_spec, make_batches):
    batches = [SimpleNamespace(x=x, y=y) for x, y in make_batches()]
    step = lambda model, batch: nn.functional.mse_loss(model(batch.x), batch.y)  # noqa: E731
    assert make_trainer().fit(make_spec(training_step=step), batches).step == 6


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    "loader",
    [[], (), DataLoader(tensors(3), batch_size=4, drop_last=True), DataSpec()],
    ids=["list", "tuple", "dropped", "spec"],
)
def test_data_without_a_batch_is_refused(make_trainer, make_spec, stage, loader):
    with pytest.raises(DataError, match=r"(is empty|no \w+ data)[\s\S]*Hint:"):
        getattr(make_trainer(), stage)(make_spec(), loader)


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_data_that_turns_out_empty_is_refused(make_trainer, make_spec, stage):
    with pytest.raises(DataError, match="empty"):
        getattr(make_trainer(), stage)(make_spec(), Unsized([]))


def test_empty_validation_is_left_out(make_trainer, make_spec, make_batches):
    trainer = make_trainer()
    trainer.on(Event.VAL_START, lambda: pytest.fail("there is nothing to validate on"))
    assert set(trainer.fit(make_spec(), make_batches(), []).metrics) == {"train/loss"}


WRONG = {
    "tensor": (torch.ones(4, 4), "TensorDataset"),
    "dataset": (tensors(4), "DataLoader"),
    "joined datasets": (ConcatDataset([tensors(4)]), "DataLoader"),
    "text": ("data/train", ""),
    "bytes": (b"data", ""),
    "number": (3, ""),
    "function": (tensors, ""),
    "class": (DataLoader, ""),
    "second spec": (DataSpec, ""),
}


@pytest.mark.parametrize("place", ["train", "val", "in a DataSpec", "test"])
@pytest.mark.parametrize("kind", WRONG)
def test_data_of_a_wrong_kind_is_refused_before_training(make_trainer, make_spec, make_batches, kind, place):
    given, says = WRONG[kind]
    trainer = make_trainer()
    trainer.on(Event.FIT_START | Event.TEST_START, lambda: pytest.fail("it has begun"))
    run, data = {
        "train": (trainer.fit, (given,)),
        "val": (trainer.fit, (make_batches(), given)),
        "test": (trainer.test, (given,)),
        "in a DataSpec": (trainer.fit, (DataSpec(train=make_batches(), val=given),)),
    }[place]
    with pytest.raises(DataError) as caught:
        run(make_spec(), *data)
    assert f"got a {type(given).__name__}" in str(caught.value)
    assert says in str(caught.value)
    assert "\nHint: " in str(caught.value)


def test_data_spec_refuses_an_unknown_stage():
    with pytest.raises(DataError, match=r"unknown argument 'trian'[\s\S]*did you mean 'train'"):
        DataSpec(trian=[])


def test_data_spec_serves_every_stage(make_trainer, make_spec, make_batches):
    data = DataSpec(train=make_batches(3), val=make_batches(2), test=make_batches(1), predict=make_batches(4))
    trainer = make_trainer(max_epochs=1)
    assert set(trainer.fit(make_spec(), data).metrics) == {"train/loss", "val/loss"}
    assert set(trainer.validate(make_spec(), data)) == {"val/loss"}
    assert set(trainer.test(make_spec(), data)) == {"test/loss"}
    assert len(trainer.predict(make_spec(), data)) == 4


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (10, 10), (99, 10), (1.0, 10)])
def test_limit_is_a_number_or_a_fraction(make_batches, sized, limit, count):
    loader = make_batches(10) if sized else Unsized(make_batches(10))
    batches = Batches(DataSource(loader, "train", limit), lambda: 0)
    assert [len(list(batches)) for _ in range(2)] == [count, count]  # each epoch starts again
    assert batches.length == count


@pytest.mark.parametrize(("limit", "count"), [(0.1, 1), (0.25, 2), (0.99, 9), (0.0, 0)])
def test_fraction_of_a_known_length_is_rounded_down(make_batches, limit, count):
    assert len(list(Batches(DataSource(make_batches(10), "val", limit), lambda: 0))) == count


def test_fraction_of_no_length_is_refused(make_trainer, make_spec, make_batches):
    with pytest.raises(ConfigError, match=r"limit_train_batches=0.5[\s\S]*Hint: use a number"):
        make_trainer(limit_train_batches=0.5).fit(make_spec(), Unsized(make_batches()))


def test_fraction_of_less_than_a_batch_is_refused(make_trainer, make_spec, make_batches):
    with pytest.raises(ConfigError, match=r"limit_val_batches=0.1 of 3 batches[\s\S]*at least 0.333"):
        make_trainer(limit_val_batches=0.1).fit(make_spec(), make_batches(), make_batches())


@pytest.mark.parametrize("limit", [0, 0.0])
def test_limit_of_no_training_is_refused_and_of_no_validation_leaves_it_out(
    make_trainer, make_spec, make_batches, limit
):
    with pytest.raises(ConfigError, match=rf"limit_train_batches={limit}[\s\S]*Hint:"):
        make_trainer(limit_train_batches=limit).fit(make_spec(), make_batches())
    found = make_trainer(limit_val_batches=limit).fit(make_spec(), make_batches(), make_batches()).metrics
    assert set(found) == {"train/loss"}


@pytest.mark.parametrize("unsized", [False, True])
def test_overfit_batches_repeats_the_first_batches_of_a_shuffled_loader(make_trainer, make_spec, unsized):
    seen = []
    step = lambda model, batch: (seen.append(batch[0][:, 0].tolist()), model(batch[0]).mean())[1]  # noqa: E731
    shuffled = DataLoader(tensors(12), batch_size=3, shuffle=True)
    make_trainer(max_epochs=3, overfit_batches=2).fit(
        make_spec(training_step=step), Unsized(shuffled) if unsized else shuffled
    )
    assert len(seen) == 6
    assert seen[:2] == seen[2:4] == seen[4:]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("kind", ["loader", "loader of a stream", "iterable without length"])
def test_iterating_is_lazy(kind):
    """Backends call ``iter`` at different times; nothing may be drawn or read before the first batch is asked for."""
    loader = DataLoader(tensors(8), shuffle=True) if kind == "loader" else KINDS[kind]()
    batches = Batches(DataSource(loader, "train", 1.0), lambda: pytest.fail("no sampler is to be set"))
    before = torch.get_rng_state()
    iterator = iter(batches)
    iter(batches)
    assert torch.equal(torch.get_rng_state(), before)
    assert getattr(loader, "opened", 0) == 0
    next(iterator)
    if kind == "iterable without length":
        assert loader.opened == 1
    else:
        assert not torch.equal(torch.get_rng_state(), before)


def test_last_batch_is_known_as_such_when_it_is_handed_out(make_batches):
    for loader in (make_batches(3), Unsized(make_batches(3))):
        batches = Batches(DataSource(loader, "train", 1.0), lambda: 0)
        for _ in range(2):
            iterator = iter(batches)
            last = [batches.length == index + 1 for index, _ in enumerate(iterator)]
            assert last == [False, False, True]


@pytest.mark.parametrize("limit", [2, 1.0])
def test_no_more_is_read_than_is_used(make_batches, limit):
    read = []
    loader = Unsized(make_batches(5))
    loader.batches = (read.append(index) or batch for index, batch in enumerate(make_batches(5)))
    iterator = iter(Batches(DataSource(loader, "train", limit), lambda: 0))
    next(iterator)
    next(iterator)
    assert len(read) == (2 if limit == 2 else 3)  # without a known length, one batch ahead


def test_sampler_is_told_the_epoch(make_trainer, make_spec):
    data, seen = tensors(16), []
    sampler = DistributedSampler(data, num_replicas=2, rank=0, seed=5)
    step = lambda model, batch: (seen.append(batch[0][:, 0].tolist()), model(batch[0]).mean())[1]  # noqa: E731
    make_trainer(max_epochs=3).fit(make_spec(training_step=step), DataLoader(data, batch_size=8, sampler=sampler))
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append([float(index * 4) for index in sampler])
    assert seen == expected


def test_batches_tell_the_sampler_the_epoch():
    data = tensors(16)
    sampler = DistributedSampler(data, num_replicas=2, rank=0, seed=5)
    epochs = iter(range(3))
    batches = Batches(DataSource(DataLoader(data, batch_size=8, sampler=sampler), "train", 1.0), lambda: next(epochs))
    seen = [[batch[0][:, 0].tolist() for batch in batches] for _ in range(3)]
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append([[float(index * 4) for index in sampler]])
    assert seen == expected
    assert seen[0] != seen[1]


@pytest.mark.parametrize("unsized", [False, True])
def test_batches_that_repeat_are_read_once(unsized):
    loader = DataLoader(tensors(64), batch_size=8, shuffle=True)
    source = DataSource(Unsized(loader) if unsized else loader, "train", 3, repeat=True)
    batches = Batches(source, lambda: 0)
    first, second = ([batch[0].tolist() for batch in batches] for _ in range(2))
    assert first == second
    assert (len(first), batches.length) == (3, 3)


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise KeyError(f"sample {index}")


def test_error_of_the_dataset_comes_out_as_it_is(make_trainer, make_spec):
    with pytest.raises(KeyError, match="sample 0"):
        make_trainer().fit(make_spec(), DataLoader(Broken()))
