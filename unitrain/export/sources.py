"""The source of exported weights: the current model, a checkpoint or a moving average."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from unitrain.callbacks import EMA
from unitrain.checkpoint.convert.codecs import take
from unitrain.checkpoint.convert.own_forms import PORTABLE
from unitrain.checkpoint.convert.to_portable import names_of, renamed
from unitrain.checkpoint.model_weights import weights_of
from unitrain.checkpoint.restore import own_part
from unitrain.errors import ExportError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

    from unitrain.distributed.collectives import Collectives
    from unitrain.export.verify import ExportReport

Weights: TypeAlias = Literal["model", "ema"]

_BLOCK = 2**20


@dataclass(frozen=True)
class Source:
    """Weights, and what the file is to say of them.

    Attributes:
        tensors: The weights by the model's names; missing ones are the model's own.
        facts: Facts for the metadata, identical on all backends.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def from_run(callbacks: Iterable[Any], weights: Weights) -> Source:
    """Return the weights that a run has reached.

    Args:
        callbacks: The callbacks of the run; an EMA holds the average.
        weights: ``"model"`` or ``"ema"``.

    Raises:
        ExportError: If there is no average, or more than one.
    """
    _check(weights)
    facts = {"weights": weights, "checkpoint_sha256": None}
    if weights == "model":
        return Source({}, facts)
    found = [one.average for one in callbacks if isinstance(one, EMA) and one.average is not None]
    return Source(_only(found, "this trainer's last run"), facts)


def from_checkpoint(path: Path, model: nn.Module, weights: Weights, part: str | None = None) -> Source:
    """Return the weights in a checkpoint of any known form, by the names of ``model``.

    Args:
        path: A file or folder of unitrain's, a file of Lightning's or Ignite's, bare weights or .safetensors.
        model: The model that they are for.
        weights: ``"model"`` or ``"ema"``.
        part: Prefix of the model's names in the file, where several fit.

    Raises:
        CheckpointError: If it cannot be read or is of another model.
        ExportError: If there is no average in it.
    """
    _check(weights)
    taken = take(path)
    facts = {"weights": weights, "checkpoint_sha256": checksum(path)}
    states: dict[str, Any] = {}
    if taken.form == PORTABLE.name:
        states = own_part(path, taken.content)["callbacks"]
        taken = replace(taken, weights=weights_of(taken.content), models=())
    if weights == "ema":
        found = [state["average"] for state in states.values() if state.keys() >= {"average", "step"}]
        average = _only([one for one in found if one is not None], str(path))
        taken = replace(taken, weights={**taken.weights, **average})
    tensors, _ = renamed(taken, names_of(taken, model, part))
    return Source(tensors, facts)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of the files in a folder, in the order of their names."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for one in files:
        with one.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _check(weights: str) -> None:
    if weights not in get_args(Weights):
        raise ExportError(f"unknown weights={weights!r}.", hint=did_you_mean(weights, get_args(Weights)))


def _only(found: list[dict[str, Tensor]], where: str) -> dict[str, Tensor]:
    if len(found) == 1:
        return found[0]
    many = "no moving average" if not found else f"{len(found)} moving averages"
    raise ExportError(
        f'weights="ema" requires exactly one EMA callback, and {where} has {many}.',
        hint="train with UnifiedTrainer(callbacks=[unitrain.EMA()])." if not found else "use one EMA callback.",
    )


def by_the_first(team: Collectives, work: Callable[[], ExportReport]) -> ExportReport:
    """Run ``work`` on rank 0 and return its result, or raise its error, on all ranks."""
    report: ExportReport | None = None
    failure: Exception | None = None
    if team.rank == 0:
        try:
            report = work()
        except Exception as error:  # noqa: BLE001 - raised below; the others wait to be told
            failure = error
    report, said = team.all_gather_object((report, None if failure is None else str(failure)))[0]
    if failure is not None:
        raise failure
    if said is not None:
        raise ExportError(f"rank 0 could not export: {said}")
    result: ExportReport = report
    return result
