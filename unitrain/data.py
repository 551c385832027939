"""From what a user gives as data to batches that mean the same on every backend.

``Batches`` is what a backend's loop iterates, once an epoch. It limits, moves to the device, tells the last batch and
refuses what is empty. Its iterator is lazy: backends call ``iter()`` at different times, but nothing is drawn from a
random number generator, and no worker starts, before the first batch is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from unitrain.batch import to_device
from unitrain.errors import ConfigError, DataError, named_arguments
from unitrain.position import Position, going_on, kept_state
from unitrain.rng import RngSnapshot
from unitrain.workers import Workers

if TYPE_CHECKING:
    import torch

    from unitrain.config import Limit, TrainerConfig

Place: TypeAlias = "Callable[[Any], Any] | None"
"""Brings a batch to its device; None if there is nothing to do."""

_END = object()


@named_arguments(DataError)
@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data of all stages in one object; give it wherever a loader goes.

    Attributes:
        train: Batches to train on.
        val: Batches to validate on.
        test: Batches to test on.
        predict: Batches to predict.
    """

    train: Iterable[Any] | None = None
    val: Iterable[Any] | None = None
    test: Iterable[Any] | None = None
    predict: Iterable[Any] | None = None


@dataclass(frozen=True)
class DataSource:
    """The data of one stage with its limit, in the form that every adapter takes.

    Attributes:
        loader: What the user gave: re-iterable, yields batches.
        stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
        limit: A number of batches (int) or a fraction (float).
        place: Moves a batch to the device (with a datamodule's own transfer hooks, if it has any).
        repeat: Whether each epoch repeats the batches of the first (``overfit_batches``).
        required: Whether it is an error if there is no batch; a validation within a fit may be empty.
        workers: The worker processes that reading has started.
    """

    loader: Iterable[Any]
    stage: str
    limit: Limit
    place: Place = None
    repeat: bool = False
    required: bool = True
    workers: Workers = field(default_factory=Workers, compare=False, repr=False)

    @property
    def length(self) -> int | None:
        """The number of batches of an epoch, or None where only iterating tells.

        Raises:
            ConfigError: If the limit is a fraction of an unknown length, or of so few batches that none is left.
        """
        size = trusted_length(self.loader)
        if isinstance(self.limit, int):
            return None if size is None else min(self.limit, size)
        if self.limit in (0.0, 1.0):
            return size if self.limit else 0
        size = self._hinted_length() if size is None else size
        count = int(size * self.limit)
        if count == 0 and size:
            raise ConfigError(
                f"limit_{self.stage}_batches={self.limit} of {size} batches is less than one batch.",
                hint=f"raise it to at least {1 / size:.3g}, or give a number of batches.",
            )
        return count

    @property
    def order_seed(self) -> int | None:
        """What the order is drawn from that several processes share; None where one process draws it as it goes."""
        return getattr(getattr(self.loader, "sampler", None), "seed", None)

    def draw_order(self, seed: int) -> None:
        """Draw the order that ``seed`` stands for, if the order is drawn from a seed."""
        if self.order_seed is not None:
            self.loader.sampler.seed = seed  # type: ignore[attr-defined]

    def snapshot(self) -> RngSnapshot:
        """Return the states of the global generators and of the loader's own."""
        return RngSnapshot(self.generators)

    @property
    def generators(self) -> list[Generator]:
        """The generators that the loader and its samplers draw from, which another loader may share."""
        parts = [self.loader, *_samplers(self.loader)]
        found = [getattr(part, "generator", None) for part in parts]
        return [one for one in found if isinstance(one, Generator)]

    def _hinted_length(self) -> int:
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"limit_{self.stage}_batches={self.limit} is a fraction, and the loader has no length.",
                hint="give a number of batches.",
            ) from error


def trusted_length(loader: Iterable[Any]) -> int | None:
    """Return how many batches ``loader`` has, or None if its word is no promise.

    The length of a DataLoader over an IterableDataset is a guess (workers, shards), so it is not trusted.
    """
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


class Batches:
    """The batches of one stage for a backend's loop.

    Attributes:
        at_iter: The global generators when the running epoch's iterator was made.
        before_ahead: The generators before the batch that was read ahead, if one was.
        length: The number of batches of the running epoch; None as long as it is not known. At the latest it is known
            when the last batch is handed out: without a trusted length, one batch is read ahead.

    Args:
        source: Where the batches come from.
        epoch: Returns the running epoch, for samplers with ``set_epoch``.
        start: Where to go on in the first epoch; None is its beginning.
    """

    def __init__(self, source: DataSource, epoch: Callable[[], int], start: Position | None = None) -> None:
        self._source = source
        self._epoch = epoch
        self._start = start
        self._resumed = start is not None
        self.at_iter: RngSnapshot | None = None
        self.before_ahead: RngSnapshot | None = None
        self._state_before_ahead: Any = None
        self._trusted = source.length
        self._kept: list[Any] | None = None
        self.length = self._trusted

    @property
    def sized(self) -> bool:
        """Whether each epoch has the trusted length; an epoch that is gone on with has not."""
        return self._trusted is not None and not self._resumed

    def state(self, *, midway: bool) -> Any:
        """Return the state of what keeps the position by itself, behind the batches that were handed out, or None."""
        if midway and self._trusted is None:
            return self._state_before_ahead
        return kept_state(self._source.loader, midway=midway)

    def __iter__(self) -> Iterator[Any]:
        place = self._source.place
        for batch in self._kept if self._kept is not None else self._read():
            yield batch if place is None else place(batch)

    def _read(self) -> Iterator[Any]:
        for sampler in _samplers(self._source.loader):
            set_epoch = getattr(sampler, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(self._epoch())
        start, self._start = self._start, None
        if start is not None:
            start.at_iter.restore()
        if self._source.stage == "train":  # no other stage is gone on with midway
            self.at_iter = start.at_iter if start is not None else self._source.snapshot()
        loader = self._source.loader
        workers = self._source.workers
        iterator = workers.watch(iter(loader)) if start is None else going_on(loader, start, workers)
        batches = (
            self._ahead(iterator, start) if self._trusted is None else self._counted(iterator, self._trusted, start)
        )
        return self._remember(batches) if self._source.repeat else batches

    def _counted(self, iterator: Iterator[Any], count: int, start: Position | None) -> Iterator[Any]:
        first = 0
        if start is not None:
            first = start.skip
            start.now.restore()
        for index in range(first, count):
            batch = next(iterator, _END)
            if batch is _END:
                raise DataError(
                    f"the {self._source.stage} loader says it has {count} batches, but ended after {index}.",
                    hint="mend its __len__, or remove it.",
                )
            yield batch

    def _ahead(self, iterator: Iterator[Any], start: Position | None) -> Iterator[Any]:
        """Yield with one batch of look-ahead, so that the last one is known as such while it is trained on."""
        limit = self._source.limit if isinstance(self._source.limit, int) else None
        self.length = None
        count = 0 if start is None else start.skip
        if start is not None and start.before_ahead is not None:
            start.before_ahead.restore()
        self.before_ahead = self._source.snapshot()
        batch = _END if limit == 0 else next(iterator, _END)
        if start is not None:
            start.now.restore()
        one_shot = iterator is self._source.loader
        if batch is _END and (self._source.required or one_shot) and limit != 0:
            raise empty(self._source.stage, one_shot=one_shot)
        while batch is not _END:
            count += 1
            self.before_ahead = self._source.snapshot()
            self._state_before_ahead = kept_state(self._source.loader, midway=True)
            following = _END if count == limit else next(iterator, _END)
            if following is _END:
                self.length = count
            yield batch
            batch = following
        self.length = count

    def _remember(self, batches: Iterator[Any]) -> Iterator[Any]:
        kept = []
        for batch in batches:
            kept.append(batch)
            if len(kept) == self.length:  # a backend that knows the length asks for no more
                self._kept = kept
            yield batch


def _samplers(loader: Any) -> list[Any]:
    found = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    found.append(getattr(found[1], "sampler", None))
    unique = {id(one): one for one in found if one is not None}
    return list(unique.values())


def empty(stage: str, *, one_shot: bool = False) -> DataError:
    """Return the error for a loader without a batch."""
    if one_shot:
        return DataError(
            f"the {stage} data is an iterator and has no batch left for this epoch.",
            hint="give something that can be iterated once an epoch: a DataLoader, a list, an object with __iter__.",
        )
    return DataError(
        f"the {stage} loader is empty.", hint="check the dataset's length, batch_size, drop_last and the limits."
    )


_NOT_BATCHES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda given: isinstance(given, Tensor), "DataLoader(TensorDataset(inputs, targets), batch_size=32)"),
    (lambda given: isinstance(given, Mapping), "give one loader; a batch itself may be a mapping."),
    (
        lambda given: isinstance(given, (list, tuple)) and any(isinstance(one, DataLoader) for one in given[:1]),
        "give one loader a stage; torch.utils.data.ConcatDataset joins datasets.",
    ),
    (
        lambda given: isinstance(given, Dataset) and not isinstance(given, IterableDataset),
        "DataLoader(dataset, batch_size=32)",
    ),
    (
        lambda given: isinstance(given, (str, bytes)) or not isinstance(given, Iterable),
        "DataLoader(dataset, batch_size=32), or a list of batches.",
    ),
)
"""What looks like data and does not yield batches, with the mend."""


def check_loader(loader: Any, stage: str) -> None:
    """Refuse what is not an iterable of batches.

    Raises:
        DataError: With what was given and the mend.
    """
    for wrong, hint in _NOT_BATCHES:
        if wrong(loader):
            raise DataError(
                f"the {stage} data must be a DataLoader or another iterable of batches; got a {type(loader).__name__}.",
                hint=hint,
            )


_DATAMODULE_HOOKS = {"train": "train_dataloader", "val": "val_dataloader", "test": "test_dataloader"}
_DATAMODULE_HOOKS["predict"] = "predict_dataloader"
_SETUP = {"train": "fit", "val": "validate", "test": "test", "predict": "predict"}


def is_datamodule(data: Any) -> bool:
    """Return whether ``data`` is a LightningDataModule, or an object in its shape."""
    return callable(getattr(data, "setup", None)) and callable(getattr(data, "prepare_data", None))


@contextmanager
def opened(data: Any, stages: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Open ``data`` and yield the loaders of ``stages`` by name (None where there is none).

    Args:
        data: A DataSpec or a datamodule (which is prepared, set up and torn down), else the loader of the first stage.
        stages: Of ``"train"``, ``"val"``, ``"test"``, ``"predict"``.
    """
    if isinstance(data, DataSpec):
        yield {stage: getattr(data, stage) for stage in stages}
    elif is_datamodule(data):
        data.prepare_data()
        data.setup(_SETUP[stages[0]])
        try:
            yield {stage: _datamodule_loader(data, _DATAMODULE_HOOKS[stage]) for stage in stages}
        finally:
            data.teardown(_SETUP[stages[0]])
    else:
        yield {stage: data if stage == stages[0] else None for stage in stages}


def _datamodule_loader(datamodule: Any, hook: str) -> Any:
    return getattr(datamodule, hook)() if _overridden(datamodule, hook) else None


def _overridden(datamodule: Any, hook: str) -> bool:
    """Return whether the user wrote ``hook``; Lightning's own is a placeholder that raises or does nothing."""
    if hook in vars(datamodule):  # LightningDataModule.from_datasets puts them on the object
        return True
    function = getattr(type(datamodule), hook, None)
    return function is not None and function.__module__.partition(".")[0] not in ("pytorch_lightning", "lightning")


def placement(device: torch.device, data: Any) -> Place:
    """Return what brings a batch to ``device``, or None if there is nothing to do.

    Args:
        device: Where the model is.
        data: What the user gave; a datamodule's own transfer hooks are called around the move, in Lightning's order.
    """
    hooks = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
    own = {hook for hook in hooks if is_datamodule(data) and _overridden(data, hook)}
    if not own:
        return None if device.type == "cpu" else lambda batch: to_device(batch, device)

    def place(batch: Any) -> Any:
        if hooks[0] in own:
            batch = data.on_before_batch_transfer(batch, 0)
        batch = data.transfer_batch_to_device(batch, device, 0) if hooks[1] in own else to_device(batch, device)
        return data.on_after_batch_transfer(batch, 0) if hooks[2] in own else batch

    return place


@overload
def make_source(loader: Any, stage: str, config: TrainerConfig, place: Place) -> DataSource: ...
@overload
def make_source(
    loader: Any, stage: str, config: TrainerConfig, place: Place, *, required: bool
) -> DataSource | None: ...
def make_source(
    loader: Any, stage: str, config: TrainerConfig, place: Place, *, required: bool = True
) -> DataSource | None:
    """Return the source of ``stage``, or None if it is not required and empty, by itself or by its limit.

    Raises:
        DataError: If the loader is not an iterable of batches, or is required and empty.
        ConfigError: If it is required and limited to no batch at all.
    """
    check_loader(loader, stage)
    limit = config.limit(stage)
    repeat = stage == "train" and bool(config.overfit_batches)
    source = DataSource(loader, stage, limit, place, repeat, required)
    if limit == 0 or source.length == 0:
        if required:
            raise _no_batch(stage, limit)
        return None
    return source


def _no_batch(stage: str, limit: Limit) -> Exception:
    if limit != 0:
        return empty(stage)
    return ConfigError(f"limit_{stage}_batches={limit!r} leaves no batch to run on.", hint="1.0 is all of them.")
