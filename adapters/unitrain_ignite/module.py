"""What stands for a spec on Ignite: the handlers that drive the shared program, and the engine that evaluates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.utilities.train_modes import ModuleModes
from unitrain_ignite._compat import Engine, Events, heard
from unitrain_ignite.engine import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from unitrain.backends.protocol import Guest
    from unitrain.loop.evaluation import Evaluation
    from unitrain.loop.fit import FitProgram


class TrainingLoop:
    """The process function and the handlers that drive a FitProgram.

    What follows a batch is a handler of ITERATION_COMPLETED where others listen to it, so that they hear of the batch
    first; else the process function does it at once: to call a single handler costs Ignite 4% of a small model's step.

    Args:
        program: What to drive.
        validator: What to run when validation is due, or None.
    """

    def __init__(self, program: FitProgram, validator: Evaluator | None) -> None:
        self._program = program
        self._validator = validator
        self._sized = program.batches.sized
        self._at_once = False

    def attach(self, engine: Engine) -> None:
        """Listen to ``engine``, after the handlers that are there already."""
        handlers: dict[Events, Callable[..., None]] = {
            Events.STARTED: self.started,
            Events.EPOCH_STARTED: self.epoch_started,
            Events.EPOCH_COMPLETED: self.epoch_completed,
            Events.COMPLETED: self.completed,
        }
        self._at_once = not heard(engine, Events.ITERATION_COMPLETED)
        if not self._at_once:
            handlers[Events.ITERATION_COMPLETED] = self.iteration_completed
        for event, handler in handlers.items():
            engine.add_event_handler(event, handler)

    def process(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch, and return its loss."""
        loss = self._program.train_batch(batch)
        if self._at_once:
            # the engine is as handlers of ITERATION_COMPLETED see it
            engine.state.output = loss  # type: ignore[assignment] # Ignite says an int
            engine.last_event_name = Events.ITERATION_COMPLETED
            self.iteration_completed(engine)
        return loss

    def started(self, engine: Engine) -> None:
        """Begin the run."""
        self._program.fit_start()
        if self._program.stopping:
            engine.terminate()

    def epoch_started(self) -> None:
        """Begin an epoch."""
        self._program.epoch_start()

    def iteration_completed(self, engine: Engine) -> None:
        """Validate if it is due; end the epoch if the run stops or no batch is left."""
        program = self._program
        if self._validator is not None and program.validation_due:
            self._validator.run()
        program.batch_done()
        # Ignite keeps the first epoch's length for all epochs, so without a trusted length each is ended by hand.
        if (not self._sized and program.epoch_over) or (program.stopping and not program.epoch_over):
            engine.terminate_epoch()

    def epoch_completed(self, engine: Engine) -> None:
        """End the epoch, and the run if it stops."""
        self._program.epoch_end()
        engine.state.metrics.update(self._program.hub.epoch_metrics)  # where Ignite's own handlers look
        if self._program.stopping:
            engine.terminate()

    def completed(self) -> None:
        """End the run."""
        self._program.fit_end()


_NO_BATCH = object()
"""What comes after the last batch of a guest's epoch, if nothing else ended it."""


class GuestLoop:
    """The handlers that drive a guest from an engine's events, and the batches that the engine iterates.

    Args:
        guest: What to drive.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def __iter__(self) -> Iterator[Any]:
        # lazy: the guest's epoch begins at EPOCH_STARTED, after Ignite has asked for an iterator
        yield from self._guest.batches()
        yield _NO_BATCH  # an epoch without a batch ends by hand too: Ignite would take 0 for the length of all epochs

    def process(self, engine: Engine, batch: Any) -> Any:  # noqa: ARG002 - Ignite's signature
        """Let the guest train on a batch, if it is one."""
        return None if batch is _NO_BATCH else self._guest.batch(batch)

    def attach(self, engine: Engine) -> None:
        """Listen to ``engine``, after the handlers that are there already."""
        guest = self._guest
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.EPOCH_STARTED, guest.epoch_start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
        engine.add_event_handler(Events.COMPLETED, guest.end)

    def started(self, engine: Engine) -> None:
        """Begin the run."""
        self._guest.start()
        if self._guest.done:
            engine.terminate()

    def iteration_completed(self, engine: Engine) -> None:
        """End the epoch by hand where the guest does: Ignite would keep the first epoch's length for all epochs."""
        if self._guest.epoch_over or engine.state.batch is _NO_BATCH:
            engine.terminate_epoch()

    def epoch_completed(self, engine: Engine) -> None:
        """End the epoch, and the run if the guest is done."""
        self._guest.epoch_end()
        if self._guest.done:
            engine.terminate()


class Evaluator:
    """An engine that evaluates, to be run as often as wanted.

    Attributes:
        engine: The real engine.

    Args:
        evaluation: What to drive.
        model: What to put into eval mode meanwhile.
    """

    def __init__(self, evaluation: Evaluation, model: nn.Module) -> None:
        self._evaluation = evaluation
        self._model = model
        self._results: list[Any] = []
        self.engine = Engine(self._process)
        self.engine.add_event_handler(Events.STARTED, evaluation.start)
        self.engine.add_event_handler(Events.COMPLETED, evaluation.end)

    def _process(self, engine: Engine, batch: Any) -> None:  # noqa: ARG002 - Ignite's signature
        self._results.append(self._evaluation.batch(batch))

    def run(self) -> list[Any]:
        """Evaluate once, without gradients, and return what the steps returned."""
        self._results = []
        batches = self._evaluation.batches
        modes = ModuleModes(self._model)
        try:
            if not batches.sized:
                self.engine.state.epoch_length = None  # it keeps the length of the run before
            with torch.no_grad(), running(self.engine):
                self.engine.run(batches, max_epochs=1, epoch_length=batches.length if batches.sized else None)
        finally:
            modes.restore()
        return self._results
