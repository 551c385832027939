"""A vectorized loader trains as the loader it was made of: each bit, on each backend, also when a run goes on with it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from unitrain import Event, UnifiedTrainer, vectorized
from unitrain.testing import cases
from unitrain.testing.models import loader, tensors
from unitrain.testing.trace import SEED, Case, Tape, Trace, differences, record

FRAMEWORKS = ["reference", "lightning", "ignite"]
AFTER = 8
"""The batch after which a run is broken off: the second of the second epoch's six."""


def split():
    data = Subset(TensorDataset(*tensors(30)), torch.randperm(30, generator=torch.Generator().manual_seed(3))[:22])
    return DataLoader(data, batch_size=4, shuffle=True)


def own_generator():
    return DataLoader(TensorDataset(*tensors()), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(4))


CASE = Case(
    name="dropout",
    spec=partial(cases.spec, "transformer", "adamw", "step"),
    train=loader,
    val=partial(loader, samples=10),
)
CASES = {
    "dropout": CASE,
    "batch norm, drop of the last samples": replace(CASE, spec=partial(cases.spec, "cnn", "sgd", "epoch"), train=split),
    "own generator": replace(CASE, train=own_generator),
    "workers": replace(CASE, train=partial(loader, workers=2)),
    "limits and accumulation": replace(CASE, options={"limit_train_batches": 5, "accumulate_grad_batches": 2}),
    "repeated batches": replace(CASE, val=None, options={"overfit_batches": 2}),
}


def with_vectors(case: Case) -> Case:
    val = case.val
    return replace(case, train=lambda: vectorized(case.train()), val=None if val is None else lambda: vectorized(val()))


@cache
def expected(name: str) -> Trace:
    return record("reference", CASES[name])


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", CASES)
def test_training_is_the_same_in_each_bit(name, framework):
    assert not differences(expected(name), record(framework, with_vectors(CASES[name])))


def broken_off(framework, case, path):
    """Train until ``AFTER`` batches are done, write a checkpoint there and break off."""

    def act(trainer):
        trainer.on(Event.BATCH_END(once=AFTER), lambda run: run.save_checkpoint(path))

        @trainer.on(Event.CHECKPOINT_SAVED)
        def crash():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(framework, replace(case, act=act))


def gone_on(framework, case, path):
    """Return what a run did that goes on from ``path``, in a world whose random numbers are elsewhere."""
    torch.manual_seed(999)
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=SEED + 1, enable_progress_bar=False, **case.options)
    tape = Tape(trainer)
    return tape.trace(trainer, trainer.fit(case.spec(), case.train(), case.val(), ckpt_path=path))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["dropout", pytest.param("own generator", marks=pytest.mark.slow), "workers"])
@pytest.mark.parametrize("first", ["plain", "vectorized"])
def test_a_run_goes_on_with_the_other_loader(name, first, framework, tmp_path):
    both = [CASES[name], with_vectors(CASES[name])]
    writer, reader = both if first == "plain" else reversed(both)
    broken_off(framework, writer, tmp_path / "run.ckpt")
    rest, whole = gone_on(framework, reader, tmp_path / "run.ckpt"), expected(name)
    assert not differences(whole.losses[AFTER:], rest.losses)
    for part in ("weights", "optimizers", "history", "outcome", "rng"):
        assert not differences(getattr(whole, part), getattr(rest, part), part)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_another_order_is_noticed(framework, monkeypatch):
    """Negative control: the samples of a batch in another order change bits."""
    select = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda tensor, dim, index: select(tensor, dim, index.flip(0)))
    assert differences(expected("dropout"), record(framework, with_vectors(CASES["dropout"])))
