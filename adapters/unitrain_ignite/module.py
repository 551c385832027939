"""The training and evaluation engines that drive a program."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

from unitrain.backends.protocol import Verdict
from unitrain.errors import ConfigError
from unitrain.loop.backend import evaluating
from unitrain_ignite._compat import Engine, Events, heard
from unitrain_ignite.engine import running
from unitrain_ignite.stopping import why_terminated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import EpochBatches, EvaluationProgram, Program

_NO_BATCH = object()
"""Marks the end of an epoch's data."""


class _UntilEnded:
    """Batches of unknown length: an empty epoch ends by hand too, or Ignite would take 0 as the length of all epochs.

    Args:
        batches: The batches of the program.
    """

    def __init__(self, batches: EpochBatches) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return chain(self._batches, (_NO_BATCH,))


class TrainingLoop:
    """The process function of an engine, and the handlers by which its events drive a program.

    The engine is made first, for the handlers of others, and is given a program when it runs.
    """

    _program: Program | None = None
    _validator: Evaluator | None = None
    _verdict = Verdict.NEXT
    _unheard = False

    def process(self, engine: Engine, batch: Any) -> Any:
        """Train on a batch, and return the output of the step.

        Raises:
            ConfigError: If the engine runs itself.
        """
        program = self._program
        if program is None:
            raise ConfigError("this engine was created by create_trainer(); run it with trainer.fit(spec, loader).")
        if batch is _NO_BATCH:
            self._verdict = Verdict.END_EPOCH
            if self._unheard:
                engine.terminate_epoch()
            return None
        self._verdict = program.train_batch(batch)
        if self._unheard and self._verdict is not Verdict.NEXT:
            engine.terminate_epoch()
        return program.output

    def run(self, engine: Engine, program: Program) -> None:
        """Run a program on ``engine``; its handlers come after those that are there already."""
        self._program = program
        self._validator = None if program.validation is None else Evaluator(program.validation)
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.EPOCH_STARTED, program.epoch_start)
        # foreign code validates within its step: if nobody listens, an event after each costs more than it tells
        self._unheard = program.foreign and not heard(engine, Events.ITERATION_COMPLETED)
        if not self._unheard:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        engine.add_event_handler(Events.COMPLETED, program.end)
        batches = program.batches
        with running(engine):
            engine.run(
                batches if batches.sized else _UntilEnded(batches),
                max_epochs=sys.maxsize if program.max_epochs is None else program.max_epochs,
                epoch_length=batches.length if batches.sized else None,  # it keeps a length for all epochs
            )
        if engine.should_terminate:
            program.stopped(why_terminated(engine))  # a handler of Ignite's called engine.terminate(), if we did not

    def _started(self, engine: Engine) -> None:
        assert self._program is not None  # noqa: S101 - for the type checker
        if self._program.start() is Verdict.END_FIT:
            engine.terminate()

    def _iteration_completed(self, engine: Engine) -> None:
        """Validate if it is due; end the epoch if the run stops or no batch is left."""
        program, verdict = self._program, self._verdict
        assert program is not None  # noqa: S101 - for the type checker
        if verdict is not Verdict.VALIDATE and engine.state.batch is not _NO_BATCH:
            verdict = program.batch_done()
        if verdict is Verdict.VALIDATE and self._validator is not None:
            self._validator.run()
            verdict = program.batch_done()
            engine.state.metrics.update(program.metrics)  # where handlers of the epoch's end look
        # an epoch of a trusted length ends by itself
        if verdict is Verdict.END_FIT or (verdict is Verdict.END_EPOCH and not program.batches.sized):
            engine.terminate_epoch()

    def _epoch_completed(self, engine: Engine) -> None:
        """End the epoch, and the run if it stops."""
        program = self._program
        assert program is not None  # noqa: S101 - for the type checker
        verdict = program.epoch_end()
        engine.state.metrics.update(program.metrics)
        if verdict is Verdict.END_FIT:
            engine.terminate()


class Evaluator:
    """An engine that evaluates, to be run as often as wanted.

    Attributes:
        engine: The real engine.

    Args:
        evaluation: The evaluation to drive.
    """

    def __init__(self, evaluation: EvaluationProgram) -> None:
        self._evaluation = evaluation
        self._results: list[Any] = []
        self.engine = Engine(self._process)
        self.engine.add_event_handler(Events.STARTED, evaluation.start)
        self.engine.add_event_handler(Events.COMPLETED, evaluation.end)

    def _process(self, engine: Engine, batch: Any) -> None:  # noqa: ARG002 - Ignite's signature
        self._results.append(self._evaluation.batch(batch))

    def run(self) -> list[Any]:
        """Evaluate once, and return the outputs of the steps."""
        self._results = []
        batches = self._evaluation.batches
        if not batches.sized:
            self.engine.state.epoch_length = None  # it keeps the length of the run before
        with evaluating(self._evaluation), running(self.engine):
            self.engine.run(batches, max_epochs=1, epoch_length=batches.length if batches.sized else None)
        return self._results
