"""A Lightning module's fit as a program for another backend's loop."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from unitrain.backends.foreign import Unsized
from unitrain.backends.protocol import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from unitrain.optim.schedules import Schedule
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


class ModuleProgram:
    """A module's fit as a ``Program``; the trainer's ``fit_loop`` implements the calls.

    Attributes:
        foreign: True: it sees to devices, modes and gradients itself.
        model: The module.
        optimizers: The trainer's, by number.
        batches: The batches of the running epoch.
        output: The output of the last step.
        last: Whether the last batch was its epoch's last.

    Args:
        trainer: The trainer that the module sees as ``self.trainer``.
    """

    foreign = True
    schedules: Sequence[Schedule] = ()
    max_epochs = None
    validation = None
    metrics: Mapping[str, float] = MappingProxyType({})

    def __init__(self, trainer: ModuleTrainer) -> None:
        self._loop = trainer.fit_loop
        self._cut = False
        self.model: nn.Module = trainer.lightning_module
        self.optimizers = {str(number): one for number, one in enumerate(trainer.optimizers)}
        self.batches = Unsized(self._read)
        self.output: Any = None
        self.last = False

    def start(self) -> Verdict:
        """Begin."""
        self._loop.start()
        return self._after_epoch()

    def _after_epoch(self) -> Verdict:
        return Verdict.END_FIT if self._loop.done else Verdict.NEXT

    def epoch_start(self) -> None:
        """Begin an epoch."""
        self._cut = False
        self._loop.epoch_start()

    def _read(self) -> Iterator[Any]:
        loop, fetcher = self._loop.epoch_loop, self._loop._data_fetcher
        while self.batch_done() is Verdict.NEXT:
            if loop.goes_on_without_batch(fetcher):
                loop.advance_end(fetcher)
                loop.iteration_done()
                continue
            try:
                fetched = next(fetcher)
            except StopIteration:
                loop.iteration_done()
                return
            yield fetched

    def train_batch(self, batch: Any) -> Verdict:
        """Train on the fetched batch."""
        loop, fetcher = self._loop.epoch_loop, self._loop._data_fetcher
        self.output = None
        try:
            self.output = loop.advance(fetcher, batch)
            loop.advance_end(fetcher)
        except StopIteration:  # as in Lightning: the epoch is over
            self._cut = True
        finally:
            loop.iteration_done()
        return self.batch_done()

    def batch_done(self) -> Verdict:
        """Return whether the epoch has no further batch; the step has validated, if it was due."""
        self.last = self._cut or self._loop.epoch_loop.done
        return Verdict.END_EPOCH if self.last else Verdict.NEXT

    def epoch_end(self) -> Verdict:
        """End an epoch."""
        self._loop.epoch_end()
        return self._after_epoch()

    def end(self) -> None:
        """End."""
        self._loop.end()

    def stopped(self, reason: str) -> None:
        """Do nothing: why the run ended is the trainer's own business."""
