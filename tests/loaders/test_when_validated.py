"""When a run validates: by batches of an epoch or of all epochs, whether or not its data has a length."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, IterableDataset

from tests.loaders.conftest import numbers
from unitrain import Event

EVERY = {  # batches of an epoch, options, after how many batches the run validates
    "3 of 7": (7, {"val_check_interval": 3}, [3, 6, 10, 13, 17, 20]),
    "4 of 7": (7, {"val_check_interval": 4}, [4, 11, 18]),
    "3 of 6": (6, {"val_check_interval": 3}, [3, 6, 9, 12, 15, 18]),
    "5 of all": (7, {"val_check_interval": 5, "check_val_every_n_epoch": None}, [5, 10, 15, 20]),
    "2 of 3 in every second epoch": (3, {"val_check_interval": 2, "check_val_every_n_epoch": 2}, [5]),
    "more than run in one call": (103, {"val_check_interval": 101}, [101, 204, 307]),
    "stopped": (7, {"val_check_interval": 4, "max_steps": 16}, [4, 11, 16]),
}


class Stream(IterableDataset):
    """Has no length."""

    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return iter(self._batches)


@pytest.mark.parametrize("sized", [True, False], ids=["with length", "without length"])
@pytest.mark.parametrize("case", EVERY)
def test_each_epoch_validates_as_the_first(make_trainer, make_spec, case, sized):
    count, options, expected = EVERY[case]
    trainer, seen, batches = make_trainer(max_epochs=3, **options), [], numbers([1.0, 2.0]) * count
    trainer.on(Event.VAL_END, lambda run: seen.append(run.state.batch))
    trainer.fit(make_spec(), batches if sized else DataLoader(Stream(batches), batch_size=None), numbers([1.0]))
    assert seen == expected
