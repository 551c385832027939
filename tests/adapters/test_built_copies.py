"""A trainer whose native object has been built, and has not run, is copied with it or not at all."""

from __future__ import annotations

import copy
import pickle

import lightning.pytorch as lightning
import pytest
from ignite.engine import Events

from unitrain import ConfigError, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader

WAYS = {"pickle": lambda value: pickle.loads(pickle.dumps(value)), "deepcopy": copy.deepcopy}
CALLED = []


def note_end():
    CALLED.append("end")


class NoteEnd(lightning.Callback):
    def on_train_end(self, trainer, pl_module):
        CALLED.append("end")


def attached(framework, handler=None):
    """Return a trainer whose native object has been built and has a handler of its own."""
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False)
    native = trainer.create_trainer()
    if framework == "ignite":
        native.add_event_handler(Events.COMPLETED, handler or note_end)
    else:
        native.callbacks.append(handler or NoteEnd())
    return trainer


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
@pytest.mark.parametrize("way", WAYS)
def test_a_native_object_that_has_not_run_travels_with_its_handlers(framework, way):
    trainer = attached(framework)
    other = WAYS[way](trainer)
    assert type(other.native) is type(trainer.native)
    assert other.native is not trainer.native
    CALLED.clear()
    native = other.native
    assert other.fit(spec(), loader()).native is native
    assert CALLED == ["end"]


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_is_bound_to_its_engine_is_not_copied_without_it(way):
    trainer = attached("ignite", bound_to_engine)
    with pytest.raises(ConfigError, match="bound_to_engine"):
        WAYS[way](trainer)
    trainer.fit(spec(), loader())  # what has run stays behind, with its handlers
    assert WAYS[way](trainer).native is None


def bound_to_engine(engine):
    CALLED.append(engine)
