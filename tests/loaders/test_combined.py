"""Several loaders to train on: the modes of Lightning's CombinedLoader, on every backend, and resume within an epoch."""

from __future__ import annotations

import copy
import itertools
import pickle
import random
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tests.checkpoint import test_resume as resume
from tests.loaders.conftest import numbers
from unitrain import CombinedLoader, DataError, DataSpec, Event, TrainSpec
from unitrain.testing import cases, cases_loaders
from unitrain.testing.models import loader
from unitrain.testing.trace import differences, record

MODES = ("min_size", "max_size_cycle", "max_size", "sequential")


def shuffled(count, size=2, workers=0):
    data = TensorDataset(torch.arange(float(count)), torch.zeros(count))
    return DataLoader(data, batch_size=size, shuffle=True, num_workers=workers)


def lightnings():
    from pytorch_lightning.utilities import CombinedLoader as Lightnings

    return Lightnings


FORMS = {
    "mapping": lambda: {"a": shuffled(7), "b": shuffled(3), "c": shuffled(12, 3)},
    "list": lambda: [shuffled(3), shuffled(8)],
    "tuple": lambda: (shuffled(3), shuffled(8)),
    "nested": lambda: {"a": shuffled(5), "b": {"c": shuffled(3), "d": shuffled(4)}},
    "one": lambda: [shuffled(5)],
    "equal": lambda: {"a": shuffled(6), "b": shuffled(6)},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_batches_are_lightnings(form, mode):
    """The same batches in the same form, with the same draws from the generators, for two epochs."""
    found = []
    for kind in (lightnings(), CombinedLoader):
        torch.manual_seed(0)
        loader = kind(FORMS[form](), mode)
        epochs = []
        for _ in range(2):
            iterator = iter(loader)
            epochs.append([next(iterator) for _ in range(len(loader))])
        rest = (
            [batch[0] for epoch in epochs for batch in epoch]
            if kind is not CombinedLoader
            else [*itertools.chain(*epochs)]
        )
        found.append((len(loader), rest, torch.get_rng_state()))
    assert len(found[0][1]) == 2 * found[0][0] > 0
    assert not differences(found[0], found[1])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_size", [{"a": 1, "b": 10}, {"a": 2, "b": 20}]),
        ("max_size_cycle", [{"a": 1, "b": 10}, {"a": 2, "b": 20}, {"a": 3, "b": 10}]),
        ("max_size", [{"a": 1, "b": 10}, {"a": 2, "b": 20}, {"a": 3, "b": None}]),
        ("sequential", [1, 2, 3, 10, 20]),
    ],
)
def test_modes_by_hand(mode, expected):
    loader = CombinedLoader({"a": [1, 2, 3], "b": [10, 20]}, mode)
    assert [list(loader), list(loader)] == [expected, expected]
    assert len(loader) == len(expected)


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list) else [batch]
        return sum(self.weight * one[0].mean() for one in parts if one is not None)


def spec():
    step = lambda model, batch: model(batch) ** 2  # noqa: E731
    return TrainSpec(model=Sum(), training_step=step, optimizer=partial(torch.optim.SGD, lr=1e-4), batch_size=1)


def by_hand(loader, epochs=2, limit=None):
    """Train as a person would, on batches of Lightning's own CombinedLoader."""
    torch.manual_seed(4)
    model = Sum()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(epochs):
        iterator = iter(loader)
        for _ in range(min(len(loader), limit or len(loader))):
            loss = model(next(iterator)[0]) ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.weight


@pytest.mark.parametrize("given", ["ours", "Lightning's"])
@pytest.mark.parametrize("mode", MODES)
def test_training_is_a_hand_written_loop_over_lightnings(make_trainer, mode, given):
    form = FORMS["mapping"]
    trainer = make_trainer()
    kind = CombinedLoader if given == "ours" else lightnings()
    torch.manual_seed(4)
    made = spec()
    trainer.fit(made, kind(form(), mode))
    assert torch.equal(made.model.weight, by_hand(lightnings()(form(), mode)))


@pytest.mark.parametrize("way", ["mapping", "list", "DataSpec", "limited"])
def test_loaders_without_a_mode_are_cycled_as_in_lightning(make_trainer, way):
    form = FORMS["list" if way == "list" else "mapping"]
    options = {"limit_train_batches": 3} if way == "limited" else {}
    torch.manual_seed(4)
    made, given = spec(), form()
    make_trainer(**options).fit(made, DataSpec(train=given) if way == "DataSpec" else given)
    assert torch.equal(made.model.weight, by_hand(lightnings()(form(), "max_size_cycle"), limit=3 if options else None))


AFTER = {  # the batch of the run, in its second epoch
    "combined-min_size": 3 + 2,
    "combined-max_size_cycle": 6 + 5,
    "combined-max_size": 6 + 5,
    "combined-sequential": 13 + 8,
    "combined-mapping": 5 + 4,
    "combined-streams": 6 + 5,
}
NEXT = {"reference": "lightning", "lightning": "ignite", "ignite": "reference"}
CASES = {case.name: case for case in cases_loaders.combined_cases()}


@pytest.mark.parametrize("name", AFTER)
def test_a_resumed_run_equals_the_uninterrupted_one(framework, name, tmp_path):
    resume.written(framework, CASES[name], AFTER[name], tmp_path / "run.ckpt")
    whole = record("reference", CASES[name])
    resume.assert_goes_on(whole, resume.resumed(NEXT[framework], CASES[name], tmp_path / "run.ckpt"))


def of_a_list(model, batch):
    return cases_loaders.side_by_side_step(model, dict(enumerate(batch)))


@pytest.mark.filterwarnings("ignore:unitrain guesses:UserWarning", "ignore:.*batch_size.*:UserWarning")
@pytest.mark.parametrize("fault", ["at_iter", "at_first", "taken"])
def test_a_lost_position_is_noticed(framework, fault, tmp_path, monkeypatch):
    from unitrain.data import combined

    case = CASES["combined-max_size_cycle"]
    if fault == "at_iter":  # what iterators draw when they are made is the seed of workers
        case = replace(case, train=lambda: CombinedLoader([loader(), cases.DATA["noisy-workers"]()], "max_size_cycle"))
        case = replace(case, spec=partial(cases.spec, training_step=of_a_list))
    resume.written("reference", case, AFTER[case.name], tmp_path / "run.ckpt")
    load = combined._Member.load_state_dict

    def loses(self, state):
        other = {"at_iter": combined.RngSnapshot().state_dict(), "at_first": None, "taken": max(state["taken"] - 1, 0)}
        load(self, {**state, fault: other[fault]})

    monkeypatch.setattr(combined._Member, "load_state_dict", loses)
    with pytest.raises(AssertionError):
        resume.assert_goes_on(record("reference", case), resume.resumed(framework, case, tmp_path / "run.ckpt"))


@pytest.mark.parametrize(("after", "workers"), [*((after, 0) for after in range(1, 6)), (4, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_state_after_any_batch(mode, after, workers):
    """Whatever is drawn between two batches, an iteration goes on from its state to the same batches."""
    torch.manual_seed(0)

    def made():
        return CombinedLoader({"a": shuffled(12, workers=workers), "b": shuffled(5), "c": [7, 8]}, mode)

    def rest_of(iterator):
        batches = []
        for batch in iterator:
            batches.append(batch)
            torch.rand(random.randrange(1, 5))  # as dropout does
        return batches

    random.seed(1)
    loader = made() if mode != "min_size" else CombinedLoader({"a": shuffled(12), "b": shuffled(14)}, mode)
    iterator = iter(loader)
    for _ in range(after):
        next(iterator)
        torch.rand(3)
    state, rng, place = copy.deepcopy(loader.state_dict()), torch.get_rng_state(), random.getstate()
    expected = rest_of(iterator)
    torch.manual_seed(99)
    other = made() if mode != "min_size" else CombinedLoader({"a": shuffled(12), "b": shuffled(14)}, mode)
    other.load_state_dict(state)
    iterator = iter(other)
    torch.set_rng_state(rng)
    random.setstate(place)
    assert expected
    assert not differences(expected, rest_of(iterator))


def test_samplers_of_all_loaders_are_told_the_epoch(make_trainer):
    data = TensorDataset(torch.arange(8.0), torch.zeros(8))
    samplers = [DistributedSampler(data, num_replicas=2, rank=0, seed=seed) for seed in (1, 2)]
    seen = []
    trainer = make_trainer(max_epochs=3)
    trainer.on(Event.BATCH_END, lambda: seen.append([sampler.epoch for sampler in samplers]))
    trainer.fit(spec(), {name: DataLoader(data, 4, sampler=one) for name, one in zip("ab", samplers, strict=True)})
    assert seen == [[0, 0], [1, 1], [2, 2]]


def test_in_evaluation_sequential_is_several_loaders_and_other_modes_are_one(make_trainer, make_spec):
    loaders = {"a": numbers([1.0], [3.0]), "b": numbers([5.0])}
    for kind in (CombinedLoader, lightnings()):
        if kind is CombinedLoader:  # Lightning's takes a list of batches apart
            found = make_trainer().validate(make_spec(metrics=None), kind(loaders, "sequential"))
            assert found == {"val/a/loss": 2.0, "val/b/loss": 5.0}
        several = kind({"a": shuffled(3, 1), "b": shuffled(2, 1)}, "sequential")
        assert {name: len(found) for name, found in make_trainer().predict(make_spec(), several).items()} == {
            "a": 3,
            "b": 2,
        }
        one = kind({"a": shuffled(3, 1), "b": shuffled(2, 1)}, "min_size")
        step = make_spec(predict_step=lambda model, batch: sorted(batch))
        assert make_trainer().predict(step, one) == [["a", "b"], ["a", "b"]]


def test_a_run_leaves_no_worker_behind(make_trainer):
    loaders = [shuffled(4, workers=1), DataLoader(TensorDataset(torch.ones(4)), num_workers=1, persistent_workers=True)]
    trainer, alive = make_trainer(max_epochs=1), []

    @trainer.on(Event.BATCH_END(once=1))
    def look():
        import multiprocessing

        alive.append(len(multiprocessing.active_children()))
        alive.append(multiprocessing)

    trainer.fit(spec(), loaders)
    assert alive[0] == 2
    assert not alive[1].active_children()


def test_it_can_be_sent_and_copied():
    loader = CombinedLoader({"a": shuffled(3), "b": [1, 2]})
    next(iter(loader))
    for other in (pickle.loads(pickle.dumps(loader)), copy.deepcopy(loader)):
        assert len(list(other)) == len(loader) == 2


REFUSED = {
    "an unknown mode": (lambda: CombinedLoader({"a": [1]}, "longest"), "'max_size_cycle'"),
    "nothing": (lambda: CombinedLoader({}), "an empty dict"),
    "one loader": (lambda: CombinedLoader(shuffled(3)), "got DataLoader"),
    "a tensor": (lambda: CombinedLoader({"a": torch.ones(3)}), "'a' must be a DataLoader"),
    "a batch to train on": (lambda: {"input": torch.ones(3), "target": torch.ones(3)}, "'input' must be a DataLoader"),
    "loaders and batches": (lambda: [shuffled(3), (torch.ones(3), torch.ones(3))], "which could be a list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(make_trainer, case):
    make, says = REFUSED[case]
    with pytest.raises(DataError) as caught:
        make_trainer().fit(spec(), make())
    assert says in str(caught.value)
    assert "\nHint: " in str(caught.value)


def test_limits_of_lightnings_are_refused(make_trainer):
    given = lightnings()({"a": shuffled(3)})
    given.limits = 2
    with pytest.raises(DataError, match="limits="):
        make_trainer().fit(spec(), given)


@pytest.mark.parametrize("way", ["mapping", "function"])
def test_several_loaders_and_a_function_are_searched_with(way):
    """The options that a fit with them needs do not get in the way of the search, which leaves them as they were."""
    from functools import partial

    from unitrain import LRFinder, TrainSpec, UnifiedTrainer

    data = torch.utils.data.TensorDataset(torch.arange(6.0)[:, None], torch.zeros(6, 1))
    loaders = {"a": torch.utils.data.DataLoader(data, 2, shuffle=True, generator=torch.Generator().manual_seed(1))}
    step = lambda model, batch: model(batch["a"][0]).square().mean()  # noqa: E731
    spec = TrainSpec(
        model=torch.nn.Linear(1, 1), training_step=step, optimizer=partial(torch.optim.SGD, lr=0.1), batch_size=2
    )
    options = {"reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 1, "enable_progress_bar": False}
    before = loaders["a"].generator.get_state()
    trainer = UnifiedTrainer("reference", **options)
    found = LRFinder(num_training=5).run(trainer, spec, (lambda: loaders) if way == "function" else loaders)
    assert found.results
    assert torch.equal(before, loaders["a"].generator.get_state())
