"""The LightningModules by which a Trainer's loops run another framework's program."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch

    from unitrain.backends.protocol import Guest


class Endless:
    """Batches with an endless length, so that Lightning does not read one ahead to find the last.

    Args:
        batches: Returns the batches of an epoch; it is called when the first of them is asked for.
    """

    def __init__(self, batches: Callable[[], Iterable[Any]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return sys.maxsize

    def __iter__(self) -> Iterator[Any]:
        yield from self._batches()


class _Untouched(OnLightning):
    stands_on = "LightningModule"

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Leave the batch where it is: the program brings it to its device by itself."""
        return batch


class GuestShell(_Untouched):
    """Hands each hook of a fit to a guest.

    Args:
        guest: Whose training it is.
    """

    def __init__(self, guest: Guest) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = guest.model
        self._guest = guest

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leave the gradients: Lightning drops them before a run."""

    def train(self, mode: bool = True) -> GuestShell:  # noqa: ARG002 - torch's signature
        """Leave the modes of the guest's modules."""
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> GuestShell:  # noqa: ARG002 - torch's signature
        """Leave the guest's modules on their devices: Lightning moves them at the beginning, and to the CPU at last."""
        return self

    def configure_optimizers(self) -> Any:
        """Return the guest's optimizers, as far as they are known."""
        return list(self._guest.optimizers)  # not None, of which Lightning warns

    def on_train_start(self) -> None:
        """Begin the run."""
        self._guest.start()
        self._stop_if_done()

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        with self._steps_counted():
            self._guest.epoch_start()

    def training_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Let the guest train on a batch."""
        with self._steps_counted():
            self._guest.batch(batch)
        if self._guest.epoch_over:
            self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    # Lightning asks for the signature of the step at each step; kept here it is asked for once.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def on_train_epoch_end(self) -> None:
        """End the epoch."""
        with self._steps_counted():
            self._guest.epoch_end()
        self._stop_if_done()

    def on_train_end(self) -> None:
        """End the run."""
        self._guest.end()

    @contextmanager
    def _steps_counted(self) -> Iterator[None]:
        """Let the Trainer's ``global_step`` count the guest's steps: its checkpoints go by it."""
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

        def stepped(*_: Any) -> None:
            progress.increment_ready()
            progress.increment_completed()

        hooks = [optimizer.register_step_post_hook(stepped) for optimizer in self._guest.optimizers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _stop_if_done(self) -> None:
        if self._guest.done:
            # the Trainer's own minima must not make it wait: the guest's word holds
            self.trainer.fit_loop.min_epochs = self.trainer.fit_loop.epoch_loop.min_steps = None
            self.trainer.should_stop = True


class EachShell(_Untouched):
    """Calls a function with each batch of an evaluation.

    Args:
        step: The function.
    """

    def __init__(self, step: Callable[[Any], Any]) -> None:
        super().__init__()
        self._step = step

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's signature
        """Call the function."""
        self._step(batch)
