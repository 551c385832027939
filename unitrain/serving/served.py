"""A model under its name: what is loaded now, its batcher, and the file that is watched."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from unitrain.errors import ExportError, UnitrainError
from unitrain.serving.arrays import RowReader
from unitrain.serving.batching import Batcher
from unitrain.serving.loading import in_thread
from unitrain.serving.metrics import BROKEN, REFUSED, RELOADED
from unitrain.serving.models.loaded import Loaded, load, stamp_of
from unitrain.serving.refusals import UNAVAILABLE, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from unitrain.serving.metrics import ModelNumbers
    from unitrain.serving.models.loaded import Stamp
    from unitrain.serving.options import ServiceConfig

LOG = logging.getLogger("unitrain.serving")


class Served:
    """One model of a service.

    Args:
        name: Under which it is served.
        path: Its file.
        config: Of the service.
        numbers: What is counted.
    """

    def __init__(self, name: str, path: Path, config: ServiceConfig, numbers: ModelNumbers) -> None:
        self.name, self.path, self.numbers = name, path, numbers
        self._config = config
        self._loaded: Loaded | None = None
        self._reader: RowReader | None = None
        self._refused: Stamp | None = None
        self.batcher = Batcher(
            lambda: self.loaded,
            max_batch=config.max_batch,
            max_wait=config.max_wait_ms / 1000,
            queue=config.queue,
            timeout=config.timeout,
            numbers=numbers,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and has run."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """The model that the next run uses.

        Raises:
            Refusal: If it is still being loaded.
        """
        if self._loaded is None:
            raise self._loading()
        return self._loaded

    def _loading(self) -> Refusal:
        return Refusal(UNAVAILABLE, f"the model {self.name!r} is being loaded.", [(b"retry-after", b"1")])

    @property
    def reader(self) -> RowReader:
        """What reads its inputs.

        Raises:
            Refusal: If the model is still being loaded.
        """
        if self._reader is None:
            raise self._loading()
        return self._reader

    def read(self) -> Loaded:
        """Load the file, which may take long; nothing is replaced yet.

        Raises:
            UnitrainError: If it cannot be loaded, or fails on its example.
        """
        return load(self.name, self.path, threads=self._config.threads, max_batch=self._config.max_batch)

    def require_same(self, loaded: Loaded, expected: Mapping[str, Any]) -> None:
        """Refuse a model that is not the one of the other workers.

        Args:
            loaded: What was read.
            expected: The description of theirs.

        Raises:
            ExportError: If the file was replaced meanwhile; where files are watched, if it has another interface.
        """
        keys = ("inputs", "outputs") if self._config.watch else ("sha256",)
        found = loaded.described()
        if any(found[key] != expected[key] for key in keys):
            raise ExportError(
                f"{self.path.name} is not the model that the other workers serve: it was replaced.",
                hint="restart the service to serve another file.",
            )

    def use(self, loaded: Loaded) -> None:
        """Answer further requests with ``loaded``."""
        self._reader = RowReader(loaded.signature, self._config.max_batch)
        self._loaded = loaded

    async def reload(self) -> None:
        """Load the file again if it was replaced, and use it if it has the same inputs and outputs."""
        try:
            found = stamp_of(self.path)
        except OSError:
            return  # between the removal and the new file; the old model stays
        if found in (self.loaded.stamp, self._refused):
            return
        try:
            loaded = await in_thread(self.read)
        except UnitrainError as error:
            self._refused = found
            self.numbers.reloaded(BROKEN)
            LOG.error("%s cannot be used; the old model stays. %s", self.path.name, error)  # noqa: TRY400
            return
        if not loaded.signature.same_interface(self.loaded.signature):
            self._refused = loaded.stamp
            self.numbers.reloaded(REFUSED)
            LOG.error("%s has other inputs or outputs; the old model stays.", self.path.name)
            return
        self.use(loaded)
        self.numbers.reloaded(RELOADED)
        LOG.info("%s was replaced and is loaded; sha256 %s", self.path.name, loaded.sha256[:12])
