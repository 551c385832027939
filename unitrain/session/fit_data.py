"""The data of a fit: opened, sharded across processes, and reloaded if requested."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from unitrain.data.combined import CombinedLoader, combined, separated
from unitrain.data.datamodules import is_datamodule, made, makes_loaders, placement
from unitrain.data.loaders import named_loaders
from unitrain.data.sharding import shard
from unitrain.data.sources import make_source, optional_sources
from unitrain.errors import ConfigError, DataError
from unitrain.utilities.rng import RngSnapshot, preserved_rng

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrain.backends.protocol import FitJob
    from unitrain.config import TrainerConfig
    from unitrain.data.sources import DataSource
    from unitrain.distributed.collectives import Collectives


class FitData:
    """The training and validation data of a fit.

    Attributes:
        train: This process's share of the training data.
        val: Its share of the validation data, one source per loader; empty if there is none.
        rng_at_load: State of the global generators before the loaders were created, if they are recreated.
        reload: Recreates a job's loaders for an epoch; None if they are kept.

    Args:
        config: How to train.
        device: The device of the batches.
        team: The processes that share them.
        data: The given training and validation data.
        loaders: Returns the loaders of a stage from the given training data.

    Raises:
        UnitrainError: If the data cannot be used or recreated.
    """

    def __init__(
        self,
        config: TrainerConfig,
        device: torch.device,
        team: Collectives,
        data: tuple[Any, Any],
        loaders: Callable[[str], Any],
    ) -> None:
        self._config, self._team, self._loaders = config, team, loaders
        self._data = data
        self._placement = partial(placement, device, data[0], prefetch=config.prefetch_to_device)
        self._closing = ExitStack()
        self.reload = self._reload if config.reload_dataloaders_every_n_epochs else None
        self.rng_at_load = None if self.reload is None else RngSnapshot().state_dict()
        self._require_makers()
        given = self._made("train", 0), self._made("val", 0)
        self._seed = order_seed(config, team)
        self.train, self.val = self._train(given[0]), self._val(given[1])
        self._watch(self.train, *self.val)

    def close(self) -> None:
        """End all worker processes of the loaders."""
        self._closing.close()

    def _require_makers(self) -> None:
        """Refuse to recreate loaders without a function or datamodule."""
        if self.reload is None or is_datamodule(self._data[0]):
            return
        given = [self._loaders("train"), self._loaders("val"), self._data[1]]
        if not any(map(makes_loaders, given)):
            raise ConfigError(
                f"reload_dataloaders_every_n_epochs={self._config.reload_dataloaders_every_n_epochs} needs a"
                f" function to call, but the training data is a {type(given[0]).__name__}.",
                hint="fit(spec, lambda: DataLoader(...)), or a datamodule.",
            )

    def _made(self, stage: str, epoch: int) -> Any:
        """Return the loaders of a stage for ``epoch``, created by the user's code."""
        brought = self._loaders(stage)
        given = self._data[1] if stage == "val" and self._data[1] is not None else brought
        return given if self.reload is None else made(given, epoch)

    def _train(self, given: Any) -> DataSource:
        loader, of_this_process = combined(given_data(given, "train")), partial(self._part, "train")
        part = loader.mapped(of_this_process) if isinstance(loader, CombinedLoader) else of_this_process(loader)
        return make_source(part, "train", self._config, self._placement())

    def _part(self, stage: str, loader: Any) -> Any:
        """Return this process's share of one loader."""
        return shard(loader, stage, self._team, self._seed)

    def _val(self, given: Any) -> tuple[DataSource, ...]:
        if given is None:
            return ()
        parts = {name: self._part("val", one) for name, one in named_loaders(separated(given), "val").items()}
        return optional_sources(parts, "val", self._config, self._placement)

    def _watch(self, *sources: DataSource) -> None:
        for source in sources:
            self._closing.callback(source.workers.close, source.loader)

    def _reload(self, job: FitJob, epoch: int) -> FitJob:
        """Return ``job`` with loaders recreated for ``epoch``; creating validation loaders keeps the random states."""
        self._closing.close()
        rng = RngSnapshot().state_dict()
        train = self._train(self._made("train", epoch))
        with preserved_rng():
            val = self._val(self._made("val", epoch))
        self._watch(train, *val)
        names = [[source.prefix for source in sources] for sources in (job.val, val)]
        if names[0] != names[1]:
            raise DataError(
                f"the validation loaders of epoch {epoch} are {', '.join(names[1]) or 'none'}; before, they were"
                f" {', '.join(names[0]) or 'none'}.",
                hint="return loaders with the same names every time.",
            )
        _draw_alike([job.train, *job.val], [train, *val])
        return replace(job, train=train, val=val, rng_at_load=rng)


def _draw_alike(old: Sequence[DataSource], new: Sequence[DataSource]) -> None:
    """Draw the order from the previous seed, which may be a checkpoint's."""
    for before, after in zip(old, new, strict=True):
        if before.order_seed is not None:
            after.draw_order(before.order_seed)


def given_data(data: Any, stage: str) -> Any:
    """Return ``data`` if there is any.

    Raises:
        DataError: If there is none.
    """
    if data is None:
        raise DataError(
            f"no {stage} data was given.", hint="pass a DataLoader, or a DataSpec or datamodule that has one."
        )
    return data


def order_seed(config: TrainerConfig, team: Collectives) -> int:
    """Return the seed of the data's order, equal on all processes."""
    if team.size == 1 or config.seed is not None:
        return config.seed or 0
    seed: int = team.all_gather_object(int(torch.randint(2**31, ())))[0]
    return seed
