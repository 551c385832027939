"""A native callback that asks for a stop behind the step: validation and the epoch's end follow the same batch."""

from __future__ import annotations

import pytest
from ignite.engine import Events
from pytorch_lightning import Callback

from unitrain import Event, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader

TOLD = Event.BATCH_END | Event.VAL_START | Event.VAL_END | Event.EPOCH_END | Event.FIT_END


class OnLightning(Callback):
    def __init__(self, act):
        self.act = act

    def on_train_batch_end(self, *_):
        self.act()


class OnIgnite:
    def __init__(self, act):
        self.act = act

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.act)


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(("framework", "kind"), [("lightning", OnLightning), ("ignite", OnIgnite)])
def test_a_stop_behind_the_step_ends_that_very_batch(framework, kind, validates):
    def act():
        if trainer.state.batch == 2:
            trainer.stop()

    trainer = UnifiedTrainer(framework, max_epochs=3, callbacks=[kind(act)], enable_progress_bar=False)
    tape = []
    trainer.on(TOLD, lambda run: tape.append((run.state.batch, run.state.epoch)))
    for event in (Event.VAL_START, Event.VAL_END):
        trainer.on(event, lambda event=event: tape.append(event.value))
    result = trainer.fit(spec(), loader(), loader() if validates else None)
    validation = [(2, 0), "val_start", (2, 0), "val_end"] if validates else []
    assert tape == [(1, 0), (2, 0), *validation, (2, 0), (2, 0)]
    assert result.stopped_by == "user"
