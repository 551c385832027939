"""Opens sources of several loaders: a DataSpec, a LightningDataModule or a similar object."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.data.batch import to_device
from unitrain.data.sources import DataSpec
from unitrain.data.transfer import prefetched
from unitrain.errors import ConfigError, DataError
from unitrain.run.filters import fits
from unitrain.utilities.plugins import BRIDGES, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from unitrain.data.sources import MoveBatch

_DATAMODULE_HOOKS = {"train": "train_dataloader", "val": "val_dataloader", "test": "test_dataloader"}
_DATAMODULE_HOOKS["predict"] = "predict_dataloader"
_SETUP = {"train": "fit", "val": "validate", "test": "test", "predict": "predict"}


def is_datamodule(data: Any) -> bool:
    """Return whether ``data`` is a LightningDataModule, or an object with its interface."""
    return callable(getattr(data, "setup", None)) and callable(getattr(data, "prepare_data", None))


@contextmanager
def opened(data: Any, stages: tuple[str, ...]) -> Iterator[Callable[[str], Any]]:
    """Open ``data`` and yield a function that creates the loader of a stage, or returns None.

    Args:
        data: A DataSpec, a datamodule (which is prepared, set up and torn down), or the loader of the first stage.
        stages: Some of ``"train"``, ``"val"``, ``"test"`` and ``"predict"``.
    """
    if isinstance(data, DataSpec):
        yield lambda stage: getattr(data, stage)
    elif is_datamodule(data):
        data.prepare_data()
        data.setup(_SETUP[stages[0]])
        try:
            yield lambda stage: _datamodule_loader(data, _DATAMODULE_HOOKS[stage])
        finally:
            data.teardown(_SETUP[stages[0]])
    else:
        yield lambda stage: data if stage == stages[0] else None


def makes_loaders(given: Any) -> bool:
    """Return whether ``given`` is a function that creates loaders."""
    return callable(given) and not isinstance(given, (type, Iterable))


def made(given: Any, epoch: int) -> Any:
    """Return the loaders for ``epoch``: the result of a function of it, or without arguments; else ``given`` unchanged.

    Raises:
        DataError: If the function takes other arguments.
    """
    if not makes_loaders(given):
        return given
    if fits(given):
        return given()
    if fits(given, epoch):
        return given(epoch)
    raise DataError(
        f"a function that returns loaders takes no argument, or the epoch; got {given!r}.",
        hint="lambda: DataLoader(...), or lambda epoch: DataLoader(...)",
    )


def _datamodule_loader(datamodule: Any, hook: str) -> Any:
    return getattr(datamodule, hook)() if _overridden(datamodule, hook) else None


def _overridden(datamodule: Any, hook: str) -> bool:
    """Return whether the user defined ``hook``; a framework's own is a placeholder that raises or does nothing."""
    if hook in vars(datamodule):  # LightningDataModule.from_datasets puts them on the object
        return True
    function = getattr(type(datamodule), hook, None)
    return function is not None and function.__module__.partition(".")[0] not in entries(BRIDGES)


def placement(device: torch.device, data: Any, index: int = 0, *, prefetch: bool = False) -> MoveBatch:
    """Return a function that moves a batch to ``device``, or None if there is nothing to do.

    Args:
        device: The device of the model.
        data: The user's data; a datamodule's own transfer hooks are called around the move, in Lightning's order.
        index: Index of the loader, which those hooks receive.
        prefetch: Whether to copy on a stream of its own.

    Raises:
        ConfigError: If the datamodule copies batches itself, but they should be prefetched.
    """
    before, during, after = "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"
    own = {hook for hook in (before, during, after) if is_datamodule(data) and _overridden(data, hook)}
    if prefetch and during in own:
        raise ConfigError(
            f"prefetch_to_device=True: {type(data).__name__}.{during}() copies the batches itself.",
            hint="prefetch_to_device=False; or remove the hook, and convert batches in on_after_batch_transfer().",
        )
    copy = partial(prefetched if prefetch else to_device, device=device)
    if not own:
        return None if device.type == "cpu" else copy

    def place(batch: Any) -> Any:
        if before in own:
            batch = data.on_before_batch_transfer(batch, index)
        batch = data.transfer_batch_to_device(batch, device, index) if during in own else copy(batch)
        return data.on_after_batch_transfer(batch, index) if after in own else batch

    return place
