"""The protocols of bridges, which run native code on any backend."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
    """What runs one framework's own code for a trainer, from its first run on.

    Attributes:
        bridged: The trainer as that code sees it: a LightningModule's ``self.trainer``, or the Ignite engine.
    """

    bridged: Any

    @property
    def native(self) -> Any:
        """The real ``Trainer`` or ``Engine`` that ran the steps."""

    def fit(self, code: Any, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        """Train; ``data`` is for training and for validation."""

    def evaluate(self, code: Any, data: Any, stage: Stage, ckpt_path: Any, *, verbose: bool | None) -> dict[str, float]:
        """Validate or test; without ``code``, that of the last run. None prints what the code's framework would."""

    def predict(self, code: Any, data: Any, ckpt_path: Any) -> list[Any]:
        """Return the predictions, one item per batch; without ``code``, with that of the last run."""

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint in the form of the code's own framework."""

    def stop(self) -> None:
        """Ask the running fit to end, as the code's own framework does."""


class Bridge(Protocol):
    """Runs one framework's own code on any backend.

    Attributes:
        home: The name of the backend on which the code is at home; there nothing stands in between.
        upgrades: By the release that code was written for ("1.x"), what makes today's of it: ``(code) -> code``.
    """

    home: ClassVar[str]
    upgrades: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def open(self, adapter: Adapter, config: TrainerConfig) -> ForeignTrainer:
        """Return what runs such code on ``adapter``.

        Args:
            adapter: Whose engine is to run it.
            config: The trainer's arguments, as they were given.

        Raises:
            UnitrainError: If an argument cannot act there, or such code runs on its own framework only.
        """
        del config
        raise UnsupportedFeatureError(
            f"code of {self.home!r} does not run on {adapter.name!r}.",
            hint="TrainSpec(model=model, loss=..., optimizer=...)",
        )

    def callback(self, native: Any, adapter: Adapter) -> Callback | None:
        """Return one of this framework's callbacks or handlers as a callback of unitrain, which every backend calls.

        Args:
            native: What was given.
            adapter: The backend that is to run, another than its own.

        Returns:
            The callback; None if ``native`` is none, or cannot be one alone.

        Raises:
            UnsupportedFeatureError: If it works in its own framework's loops only.
        """

    def redirected(self, framework: str) -> AbstractContextManager[None]:
        """Let scripts of this framework that are run meanwhile, unchanged, train on ``framework``."""
        del framework
        return nullcontext()


@dataclass(frozen=True)
class Unsized:
    """The batches of a foreign program: only iterating tells how many an epoch has.

    Attributes:
        read: A generator function, so that nothing is read before the first batch is asked for.
    """

    read: Callable[[], Iterator[Any]]
    sized: ClassVar[bool] = False
    length: ClassVar[None] = None

    def __iter__(self) -> Iterator[Any]:
        return self.read()


@dataclass(frozen=True)
class ForeignEvaluation:
    """An evaluation that is nothing but a step on each batch; the code around it sees to modes and gradients.

    Attributes:
        batches: Those of all loaders.
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
