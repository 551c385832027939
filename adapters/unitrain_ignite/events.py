"""The Ignite event that drives each unitrain event.

Training batches are run by the process function and evaluation batches by the evaluator's, so the events within a step
have no Ignite event of their own: they fire from the shared step.
"""

from __future__ import annotations

from typing import Final

from unitrain.run.hub import Event

PROCESS = "process_function"
RUN = "run"

EVENTS: Final[dict[Event, str]] = {
    Event.FIT_START: "STARTED",
    Event.EPOCH_START: "EPOCH_STARTED",
    Event.BATCH_START: PROCESS,
    Event.BACKWARD_END: PROCESS,
    Event.OPTIMIZER_STEP: PROCESS,
    Event.BATCH_END: PROCESS,
    Event.VAL_START: "ITERATION_COMPLETED",
    Event.VAL_BATCH_START: PROCESS,
    Event.VAL_BATCH_END: PROCESS,
    Event.VAL_END: "COMPLETED",
    Event.EPOCH_END: "EPOCH_COMPLETED",
    Event.CHECKPOINT_SAVED: RUN,
    Event.EXCEPTION: RUN,
    Event.FIT_END: "COMPLETED",
    Event.TEST_START: "STARTED",
    Event.TEST_BATCH_START: PROCESS,
    Event.TEST_BATCH_END: PROCESS,
    Event.TEST_END: "COMPLETED",
    Event.PREDICT_START: "STARTED",
    Event.PREDICT_BATCH_START: PROCESS,
    Event.PREDICT_BATCH_END: PROCESS,
    Event.PREDICT_END: "COMPLETED",
}
"""Upper-case names are members of ``ignite.engine.Events``, lower-case names are methods of ``Engine``."""

UNMAPPED: Final[dict[str, str]] = {
    "ITERATION_STARTED": "Ignite has counted the iteration by then; BATCH_START fires in the process function",
    "GET_BATCH_STARTED": "data loading is not a run event; unitrain's loader wrapper handles it",
    "GET_BATCH_COMPLETED": "data loading is not a run event; unitrain's loader wrapper handles it",
    "DATALOADER_STOP_ITERATION": "fires between epochs here, since each epoch is one pass of the loader wrapper",
    "EXCEPTION_RAISED": "a handler there swallows the error; unitrain fires EXCEPTION around Engine.run and re-raises",
    "TERMINATE": "skips EPOCH_COMPLETED; unitrain stops by ending the epoch first",
    "TERMINATE_SINGLE_EPOCH": "used by unitrain to end an epoch early",
    "INTERRUPT": "raises: it pauses an engine for a later run(), but a fit is one run",
}
