"""A signal ends a run by the same events on every backend."""

import os
import signal

import pytest

from unitrain import Event, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader


def tape(framework, number, folder):
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=0, enable_progress_bar=False, default_root_dir=folder)
    events = []
    for event in Event:
        trainer.on(event, lambda event=event: events.append(event.value))
    trainer.on(Event.BATCH_END(once=8), lambda: os.kill(os.getpid(), number))
    result = trainer.fit(spec(), loader(), loader())
    return result.stopped_by, result.step, events


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_epoch_fires_the_same_events(number, tmp_path):
    reference = tape("reference", number, tmp_path)
    validations = 2 if number == signal.SIGINT else 1  # who sends SIGTERM does not wait for another validation
    assert reference[2].count("val_start") == validations
    assert tape("ignite", number, tmp_path) == reference
    assert tape("lightning", number, tmp_path) == reference
