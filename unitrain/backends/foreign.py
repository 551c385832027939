"""The protocols of bridges, which run native code on any backend."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from unitrain.backends.protocol import Stage
from unitrain.errors import UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import nn

    from unitrain.backends.protocol import Adapter, EpochBatches
    from unitrain.callbacks import Callback
    from unitrain.config import TrainerConfig
    from unitrain.run.result import FitResult


class ForeignTrainer(Protocol):
    """Runs one framework's own code for a trainer.

    Attributes:
        bridged: The trainer that the code sees: a LightningModule's ``self.trainer``, or the Ignite engine.
    """

    bridged: Any

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine`` that ran the steps."""

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train; ``data`` is for training and for validation."""

    def evaluate(self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None) -> dict[str, float]:
        """Validate or test ``code``, by default that of the last run. None prints what its own framework would."""

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Return the predictions of ``code``, by default that of the last run, one item per batch."""

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint in the format of the code's own framework."""

    def stop(self) -> None:
        """Stop the running fit as the code's own framework does."""


class Bridge(Protocol):
    """Runs one framework's own code on any backend.

    Attributes:
        home: Name of the backend that runs this code natively.
        upgrades: Functions ``(code) -> code`` that upgrade code, by the release that it was written for ("1.x").
    """

    home: ClassVar[str]
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def open(self, adapter: Adapter, config: TrainerConfig) -> ForeignTrainer:
        """Return an object that runs this framework's code on ``adapter``.

        Args:
            adapter: The backend that runs it.
            config: The given trainer arguments.

        Raises:
            UnitrainError: If an argument has no effect there, or the code runs only on its own framework.
        """
        del config
        raise UnsupportedFeatureError(
            f"code of {self.home!r} does not run on {adapter.name!r}.",
            hint="TrainSpec(model=model, loss=..., optimizer=...)",
        )

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:
        """Wrap one of this framework's callbacks or handlers in a unitrain callback, which every backend calls.

        Args:
            native: The given object.
            adapter: The backend of the run, not the framework's own.

        Returns:
            The callback; None if ``native`` is not a callback, or not a complete one.

        Raises:
            UnsupportedFeatureError: If it works only in its own framework's loops.
        """

    def redirected(self, framework: str) -> AbstractContextManager[None]:
        """Make unchanged scripts of this framework train on ``framework`` meanwhile."""
        del framework
        return nullcontext()


@dataclass(frozen=True)
class FrameworkFiles:
    """Configuration files for a framework's own command line, and what was added on the command line.

    Attributes:
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.
        paths: The files, as given; later ones win.
        contents: The contents of each file.
        arguments: Further arguments, as given.
    """

    stage: str
    paths: tuple[str, ...]
    contents: tuple[Mapping[str, Any], ...]
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The files, for messages."""
        return ", ".join(self.paths)


@runtime_checkable
class FileReader(Protocol):
    """A bridge whose framework has a command line of its own, with configuration files.

    Attributes:
        home: Name of the backend that runs them by default.
    """

    home: ClassVar[str]

    def reads(self, contents: Mapping[str, Any]) -> bool:
        """Return whether a file with these contents is one of that command line."""

    def run_files(self, files: FrameworkFiles, framework: str) -> Any:
        """Run the files as the framework's own command line does, on another engine.

        Args:
            files: The files.
            framework: Name of the backend that runs them.

        Returns:
            A FitResult, the metrics of an evaluation, or predictions; None if nothing was to be run.

        Raises:
            UnitrainError: If a file is invalid, or needs what the backend does not support.
        """


@dataclass(frozen=True)
class Unsized:
    """The batches of a foreign program; the length of an epoch is unknown.

    Attributes:
        read: A generator function, so that nothing is read before the first batch is requested.
    """

    read: Callable[[], Iterator[Any]]
    sized: ClassVar[bool] = False
    length: ClassVar[None] = None

    def __iter__(self) -> Iterator[Any]:
        return self.read()


@dataclass(frozen=True)
class ForeignEvaluation:
    """An evaluation that only runs a step on each batch; the caller manages modes and gradients.

    Attributes:
        batches: The batches of all loaders.
        batch: The step.
    """

    batches: EpochBatches
    batch: Callable[[Any], Any]
    stage: ClassVar[Stage] = Stage.VAL
    model: ClassVar[nn.Module | None] = None
    metrics: ClassVar[Mapping[str, float]] = {}

    def start(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""
