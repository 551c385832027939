"""Lengths of loaders that change between epochs."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

from tests.core.test_data import FRAMEWORKS, seen_by, tensors
from unitrain import DataError, UnifiedTrainer
from unitrain.data.batches import Batches


class Changing:
    """A batch sampler whose length is another one in each epoch."""

    def __init__(self, change):
        self.count, self.change = 4, change

    def __iter__(self):
        batches = [[index] for index in range(self.count)]
        self.count += self.change
        return iter(batches)

    def __len__(self):
        return self.count


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("change", [2, -1])
@pytest.mark.parametrize("stage", ["train", "val"])
def test_length_that_changes_between_epochs_is_refused(framework, make_spec, make_batches, change, stage):
    loader = DataLoader(tensors(10), batch_sampler=Changing(change))
    data = (loader, None) if stage == "train" else (make_batches(), loader)
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False)
    message = f"the {stage} loader had 4 batches when the run began, and an epoch now has {4 + change}"
    with pytest.raises(DataError, match=message) as raised:
        trainer.fit(make_spec(), *data)
    assert trainer.state.epoch == 1
    assert "reload_dataloaders_every_n_epochs=1" in raised.value.hint


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("change", [2, -1])
def test_length_may_change_where_it_is_looked_at_again(framework, make_spec, make_batches, change):
    loader = DataLoader(tensors(10), batch_sampler=Changing(change))
    reloading = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, reload_dataloaders_every_n_epochs=1)
    lengths, _ = seen_by(reloading, make_spec(), lambda: loader)
    assert lengths == [4, 4 + change, 4 + 2 * change]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_limit_below_all_lengths_is_a_length(framework, make_spec):
    loader = DataLoader(tensors(10), batch_sampler=Changing(2))
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, limit_train_batches=3)
    assert trainer.fit(make_spec(), loader).step == 9


def test_length_that_is_not_looked_at_would_leave_batches_out(make_spec, monkeypatch):
    monkeypatch.setattr(Batches, "_require_same_length", lambda self: None)
    loader = DataLoader(tensors(10), batch_sampler=Changing(2))
    trainer = UnifiedTrainer("ignite", max_epochs=3, enable_progress_bar=False)
    assert trainer.fit(make_spec(), loader).step == 12
