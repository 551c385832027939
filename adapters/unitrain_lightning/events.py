"""The Lightning hook that drives each unitrain event.

The shell module (``module.py``) overrides these hooks. Batches are run by its steps, so the events within a step have
no hook of their own: they fire from the shared step.
"""

from __future__ import annotations

from typing import Final

from unitrain.run.hub import Event

RUN = "fit"

EVENTS: Final[dict[Event, str]] = {
    Event.FIT_START: "on_train_start",
    Event.EPOCH_START: "on_train_epoch_start",
    Event.BATCH_START: "training_step",
    Event.BACKWARD_END: "training_step",
    Event.OPTIMIZER_STEP: "training_step",
    Event.BATCH_END: "training_step",
    Event.VAL_START: "on_validation_start",
    Event.VAL_BATCH_START: "validation_step",
    Event.VAL_BATCH_END: "validation_step",
    Event.VAL_END: "on_validation_epoch_end",
    Event.EPOCH_END: "on_train_epoch_end",
    Event.CHECKPOINT_SAVED: RUN,
    Event.EXCEPTION: RUN,
    Event.FIT_END: "on_train_end",
    Event.TEST_START: "on_test_start",
    Event.TEST_BATCH_START: "test_step",
    Event.TEST_BATCH_END: "test_step",
    Event.TEST_END: "on_test_epoch_end",
    Event.PREDICT_START: "on_predict_start",
    Event.PREDICT_BATCH_START: "predict_step",
    Event.PREDICT_BATCH_END: "predict_step",
    Event.PREDICT_END: "on_predict_epoch_end",
}
"""Hook names of a LightningModule; ``fit`` is the method of the Trainer."""

_WITHIN = "BATCH_START and BATCH_END fire within the step, one call cheaper"
_BEFORE_DATA = "runs before the run has a state; FIT_START is on_train_start"
_PASSED = "called for native callbacks by Lightning itself; the event fires from the shared step"
_EPOCH = "at the same time as the stage's start or end"
_MODE = "Lightning puts the module into eval mode and back"
_FILE = "unitrain writes its own portable checkpoint and fires CHECKPOINT_SAVED"

UNMAPPED: Final[dict[str, str]] = {
    "setup": _BEFORE_DATA,
    "teardown": "runs after the run is over; FIT_END is on_train_end",
    "on_fit_start": _BEFORE_DATA,
    "on_fit_end": "runs during teardown; FIT_END is on_train_end",
    "on_sanity_check_start": "disabled: it would draw random numbers before training",
    "on_sanity_check_end": "disabled: it would draw random numbers before training",
    "on_train_batch_start": _WITHIN,
    "on_train_batch_end": "ends the batch behind the native callbacks; BATCH_END fires within the step",
    "on_validation_batch_start": _WITHIN,
    "on_validation_batch_end": _WITHIN,
    "on_test_batch_start": _WITHIN,
    "on_test_batch_end": _WITHIN,
    "on_predict_batch_start": _WITHIN,
    "on_predict_batch_end": _WITHIN,
    "on_validation_epoch_start": _EPOCH,
    "on_validation_end": "called after the callbacks' on_validation_end, which need the metrics",
    "on_test_epoch_start": _EPOCH,
    "on_test_end": "called after the callbacks' on_test_end, which need the metrics",
    "on_predict_epoch_start": _EPOCH,
    "on_predict_end": _EPOCH,
    "on_exception": "not called for errors in Lightning's own setup; unitrain fires EXCEPTION around Trainer.fit",
    "on_before_backward": _PASSED,
    "on_after_backward": _PASSED,
    "on_before_optimizer_step": _PASSED,
    "on_before_zero_grad": _PASSED,
    "on_validation_model_zero_grad": "disabled: it would clear gradients during accumulation",
    "on_validation_model_eval": _MODE,
    "on_validation_model_train": _MODE,
    "on_test_model_eval": _MODE,
    "on_test_model_train": _MODE,
    "on_predict_model_eval": _MODE,
    "on_save_checkpoint": _FILE,
    "on_load_checkpoint": _FILE,
    "on_before_batch_transfer": "a datamodule's own transfer hooks are called by unitrain's loader wrapper",
    "on_after_batch_transfer": "a datamodule's own transfer hooks are called by unitrain's loader wrapper",
}
