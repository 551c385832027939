"""The content of another program's file in one common form, and the protocol of codecs, which read and write files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from unitrain.checkpoint.layout import Counts
from unitrain.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import nn

    from unitrain.spec import TrainSpec

_SCALER_KEYS = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


@dataclass(frozen=True)
class TrainingPosition:
    """The progress of a run.

    Attributes:
        epochs_done: Number of completed epochs.
        in_epoch: Batches done in the running epoch, or in the one that just ended.
        midway: Whether the epoch is incomplete.
        batches: Batches done in the run.
        steps: Optimizer steps, summed over the optimizers.
        stepped: Batches after which any optimizer stepped.
        epoch_length: Batches of an epoch, if it is known.
        max_epochs: Number of epochs of the run, if known.
    """

    epochs_done: int
    in_epoch: int
    midway: bool
    batches: int
    steps: int
    stepped: int
    epoch_length: int | None = None
    max_epochs: int | None = None

    @property
    def counts(self) -> Counts:
        """What a run of unitrain would have counted."""
        return Counts(
            epoch=self.epochs_done if self.midway else max(self.epochs_done - 1, 0),
            batches=self.batches,
            batches_in_epoch=self.in_epoch,
            steps=self.steps,
            midway=self.midway,
            validated=False,
        )


class Writer(NamedTuple):
    """The program that wrote a file.

    Attributes:
        program: Name of the program.
        version: Version of the program.
    """

    program: str
    version: str


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The content of a file to read or write.

    Attributes:
        path: The file.
        form: The name of its codec.
        content: The whole content; when writing, that of the portable file.
        weights: The weights by their names in the file; when writing, by the model's own names.
        models: Names of the models in a file with several, which are prefixes of their weights' names. None if it is
            unknown whether the names are a model's own.
        optimizers: The states of optimizers by name.
        numbered: Whether those names are but numbers, so that their order tells whose the states are.
        schedules: The states of torch schedulers.
        scaler: The state of the gradient scaler.
        stand: Progress of the run, if the file contains it.
        hparams: The hyper-parameters.
        written_by: The program that wrote it, if the file says so.
        lost: Descriptions of what cannot be converted; when writing, of what a format with only the fields above cannot
            store.
        private: Data that only programs of this format understand, which no other format stores.
    """

    path: Path
    form: str
    content: dict[str, Any]
    weights: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    optimizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbered: bool = False
    schedules: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] | None = None
    stand: TrainingPosition | None = None
    hparams: dict[str, Any] = field(default_factory=dict)
    written_by: Writer | None = None
    lost: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)


class CheckpointCodec(Protocol):
    """One checkpoint format: recognises, reads and writes files.

    A package adds one with an entry point in the group ``unitrain.checkpoints``, which names a subclass. It is loaded
    for each file that is read, so it imports its framework within its methods, or not at all.

    Attributes:
        name: Name of the format in ``convert_checkpoint(to=)`` and ``unitrain convert --to``.
        description: Name of the format in ``unitrain convert --inspect``.
        catch_all: Whether it takes what looks like no other form; it is asked last.
        rewrites: Whether ``read`` brings files of older releases up to date, so that to convert such a file to its own
            form is to write its content again.
        stand_ins: Replacements for classes in a file, by full name, in addition to those that torch allows.
        hollow: Prefixes of full names of classes that are replaced with empty ones.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    catch_all: ClassVar[bool] = False
    rewrites: ClassVar[bool] = False
    stand_ins: ClassVar[Mapping[str, Any]] = {}
    hollow: ClassVar[tuple[str, ...]] = ()

    def recognises(self, content: dict[str, Any]) -> bool:
        """Return whether a file with this content is of the form."""

    def read(self, path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
        """Return what the file at ``path`` holds.

        Raises:
            CheckpointError: If it does not say enough. An error of the kind of KeyError or TypeError becomes one.
        """

    def write(self, run: ForeignCheckpoint, target: Path, template: TrainSpec | nn.Module | None) -> list[str]:
        """Write a run, by ``unitrain.checkpoint.io.write``, and return what the file cannot carry.

        Args:
            run: Each of its fields is filled; ``lost`` has what most forms have no place for.
            target: The file to write.
            template: The ``template`` of ``convert_checkpoint``.

        Raises:
            CheckpointError: If the form cannot hold the run.
        """

    def write_weights(
        self, weights: dict[str, Any], target: Path, template: TrainSpec | nn.Module | None, lost: list[str]
    ) -> None:
        """Write weights alone, by their names in the model, and add to ``lost`` what the file cannot carry."""


@contextmanager
def well_formed(path: Path, form: str) -> Iterator[None]:
    """Turn what a file that only looks like one of ``form`` leads to into an error that says so.

    Raises:
        CheckpointError: If it is not; the message names the file and its format.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} looks like a {form!r} file, but is malformed: {error!r}.",
            hint="write it again with the original program.",
        ) from error


def is_weights(value: Any) -> bool:
    """Return whether ``value`` is the state of a model."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    tensors = sum(isinstance(one, Tensor) for one in value.values())
    states = sum(key.endswith("_extra_state") for key in value)
    return bool(tensors) and tensors + states == len(value) and not is_scaler(value)


def is_scaler(value: Any) -> bool:
    """Return whether ``value`` is the state of a gradient scaler."""
    return isinstance(value, dict) and value.keys() == _SCALER_KEYS


def is_schedule(value: Any) -> bool:
    """Return whether ``value`` is the state of one of torch's schedulers."""
    return isinstance(value, dict) and "last_epoch" in value


def counted_by(state: dict[str, Any]) -> int | None:
    """Return how often an optimizer has stepped, if it counts that itself, as Adam does."""
    found = [int(one["step"]) for one in state["state"].values() if isinstance(one, dict) and "step" in one]
    return max(found) if found else None
