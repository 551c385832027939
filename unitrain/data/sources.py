"""User data, and the data sources that adapters receive: one per loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from unitrain.data.loaders import check_loader, generators_of, members_of, trusted_length
from unitrain.data.own_random import OwnRandom
from unitrain.data.workers import Workers
from unitrain.errors import ConfigError, DataError, named_arguments
from unitrain.utilities.rng import RngSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Generator

    from unitrain.config import Limit, TrainerConfig
    from unitrain.utilities.profiling import Clock


class DataModuleLike(Protocol):
    """A LightningDataModule, or an object with the loader methods of one."""

    def train_dataloader(self) -> Any:
        """Return the training loader."""


MoveBatch: TypeAlias = "Callable[[Any], Any] | None"
"""Moves a batch to its device; None for a no-op."""


@named_arguments(DataError)
@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The data of all stages in one object; it can be passed wherever a loader is expected.

    Evaluation data may be several loaders: a mapping of names to loaders, or a list of loaders.

    Attributes:
        train: Batches to train on.
        val: Batches to validate on.
        test: Batches to test on.
        predict: Batches to predict.

    Example:
        >>> data = DataSpec(train=batches, val={"clean": batches, "noisy": batches})
        >>> result = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False).fit(spec, data)
        >>> sorted(result.metrics)
        ['train/loss', 'val/clean/loss', 'val/noisy/loss']
    """

    train: Iterable[Any] | None = None
    val: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None
    test: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None
    predict: Iterable[Any] | Mapping[str, Iterable[Any]] | None = None


TrainData: TypeAlias = "Iterable[Any] | DataSpec | DataModuleLike | Callable[[], Any] | Callable[[int], Any]"
"""Training data: a loader, a DataSpec, a datamodule, or a function that returns a new loader (given the epoch)."""

EvalData: TypeAlias = "TrainData | Mapping[str, Iterable[Any]]"
"""Evaluation data: as for training, or several loaders by name."""


@dataclass(frozen=True)
class DataSource:
    """The data of one stage with its limit, in the form that every adapter takes.

    Attributes:
        loader: The user's loader: re-iterable, yields batches.
        stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
        limit: A number of batches (int) or a fraction (float).
        place: Moves a batch to the device (with a datamodule's own transfer hooks, if it has any).
        repeat: Whether each epoch repeats the batches of the first (``overfit_batches``).
        required: Whether empty data is an error; a validation within a fit may be empty.
        name: Name of the loader among several of an evaluation; None if it is the only one.
        clock: Measures the loading time of each batch, if profiling.
        workers: The started worker processes.
    """

    loader: Iterable[Any]
    stage: str
    limit: Limit
    place: MoveBatch = None
    repeat: bool = False
    required: bool = True
    name: str | None = None
    clock: Clock | None = None
    workers: Workers = field(default_factory=Workers, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The stage and the loader's name, for messages."""
        return f"{self.stage} loader" if self.name is None else f"{self.stage} loader {self.name!r}"

    @property
    def prefix(self) -> str:
        """The prefix of its metric names."""
        return self.stage if self.name is None else f"{self.stage}/{self.name}"

    @property
    def length(self) -> int | None:
        """Number of batches of an epoch, or None if unknown.

        Raises:
            ConfigError: If the limit is a fraction of an unknown length, or leaves no batches.
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
                f"limit_{self.stage}_batches={self.limit} of {size} batches is less than one batch"
                f"{'' if self.name is None else f' of the loader {self.name!r}'}.",
                hint=f"raise it to at least {1 / size:.3g}, or use a number of batches.",
            )
        return count

    @property
    def order_seed(self) -> int | None:
        """The seed of the sample order that several processes share; None for a single process."""
        seeds = [getattr(getattr(one, "sampler", None), "seed", None) for one in members_of(self.loader)]
        return next((seed for seed in seeds if seed is not None), None)

    def draw_order(self, seed: int) -> None:
        """Draw the order for ``seed``, if the order is drawn from a seed."""
        for one in members_of(self.loader):
            if getattr(getattr(one, "sampler", None), "seed", None) is not None:
                one.sampler.seed = seed

    def snapshot(self, *, whole: bool = False) -> RngSnapshot:
        """Return the states of the global generators and of the loader's own; ``whole`` includes those of its parts."""
        return RngSnapshot(self.generators, self.own_random if whole else None)

    @property
    def own_random(self) -> OwnRandom:
        """The generators in samplers, datasets and transforms."""
        return OwnRandom([self.loader])

    @property
    def generators(self) -> list[Generator]:
        """The generators of the loader and its samplers, which another loader may share."""
        return generators_of(self.loader)

    def _hinted_length(self) -> int:
        try:
            return len(self.loader)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError) as error:
            raise ConfigError(
                f"limit_{self.stage}_batches={self.limit} is a fraction, but the loader has no length.",
                hint="use a number of batches.",
            ) from error


def empty(label: str, *, one_shot: bool = False) -> DataError:
    """Return the error for a loader without a batch."""
    if one_shot:
        return DataError(
            f"the {label} is an exhausted iterator.",
            hint="pass something that can be iterated every epoch: a DataLoader, a list, an object with __iter__.",
        )
    return DataError(f"the {label} is empty.", hint="check the dataset's length, batch_size, drop_last and the limits.")


def other_length(label: str, before: int | None, now: int | None) -> DataError:
    """Return the error for a loader whose length has changed since the run began."""
    return DataError(
        f"the {label} had {before} batches when the run began, and an epoch now has"
        f" {'an unknown number' if now is None else now}.",
        hint="fit(spec, lambda: loader) with reload_dataloaders_every_n_epochs=1 reads the length in each epoch; a"
        " loader without __len__ is read to its end.",
    )


def make_source(
    loader: Any, stage: str, config: TrainerConfig, place: MoveBatch, name: str | None = None
) -> DataSource:
    """Return the source of ``stage``.

    Args:
        loader: The user's loader.
        stage: ``"train"``, ``"val"``, ``"test"`` or ``"predict"``.
        config: The trainer's options, with the limits.
        place: Moves a batch to the device.
        name: The loader's name among several.

    Raises:
        DataError: If the loader is not an iterable of batches, or is empty.
        ConfigError: If the limit leaves no batches.
    """
    check_loader(loader, stage, name)
    limit = config.limit(stage)
    repeat = stage == "train" and bool(config.overfit_batches)
    source = DataSource(loader, stage, limit, place, repeat, name=name)
    if limit == 0:
        raise ConfigError(f"limit_{stage}_batches={limit!r} leaves no batches.", hint="1.0 means all.")
    if source.length == 0:
        raise empty(source.label)
    return source


def optional_sources(
    loaders: Mapping[str | None, Any], stage: str, config: TrainerConfig, place: Callable[[int], MoveBatch]
) -> tuple[DataSource, ...]:
    """Return the sources of an optional evaluation; none if its limit is 0 or its only loader is empty.

    Args:
        loaders: The loaders by name.
        stage: As in ``make_source``.
        config: As in ``make_source``.
        place: Returns the function that moves the batches of the loader with that index.

    Raises:
        DataError: If a loader is not an iterable of batches, or one of several is empty.
    """
    for name, loader in loaders.items():
        check_loader(loader, stage, name)
    if config.limit(stage) == 0:
        return ()
    if None in loaders:
        only = DataSource(loaders[None], stage, config.limit(stage), place(0), required=False)
        return () if only.length == 0 else (only,)
    return tuple(
        make_source(loader, stage, config, place(index), name) for index, (name, loader) in enumerate(loaders.items())
    )
