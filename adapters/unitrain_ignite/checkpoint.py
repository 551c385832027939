"""Ignite's checkpoints, ``{name: state_dict}``: parts are recognised by content. Does not need Ignite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.checkpoint import io
from unitrain.checkpoint.convert.foreign_checkpoint import (
    CheckpointCodec,
    ForeignCheckpoint,
    TrainingPosition,
    counted_by,
    is_scaler,
    is_schedule,
    is_weights,
)
from unitrain.checkpoint.convert.match_optimizers import is_optimizer
from unitrain.checkpoint.convert.safe_reading import made_plain
from unitrain.checkpoint.layout import KEY
from unitrain.errors import CheckpointError
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from unitrain.spec import TrainSpec

_ENGINE_KEYS = {"epoch_length", "max_epochs"}
_TRAINER = "trainer"


class IgniteCodec(CheckpointCodec):
    """Files of ``ignite.handlers.Checkpoint``, and any other dict with the state of a model in it."""

    name = "ignite"
    description = "Ignite's, {name: state_dict}"
    catch_all = True

    def recognises(self, content: dict[str, Any]) -> bool:
        """Return whether the state of a model is in it."""
        return any(map(is_weights, content.values()))

    def read(self, path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
        """Return the content of the file.

        Raises:
            CheckpointError: If it has several engines, or one that does not say how long an epoch is.
        """
        changed: list[str] = []
        content = made_plain(content, "", changed)
        kinds: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
        lost = [f"{place}: its type (stored as a plain value)" for place in changed]
        for name, value in content.items():
            kind = next((kind for kind, is_one in _KINDS.items() if is_one(value)), None)
            if kind is not None:
                kinds[kind][name] = value
            elif name != "checkpointer":
                lost.append(f"{name!r}, whose meaning is unknown")
        models = kinds["model"]
        one = next(iter(models.values())) if len(models) == 1 else None
        union = {f"{part}.{name}": value for part, state in models.items() for name, value in state.items()}
        scalers = list(kinds["scaler"].values())
        return ForeignCheckpoint(
            path,
            self.name,
            content,
            weights=union if one is None else one,
            models=tuple(models),
            optimizers=kinds["optimizer"],
            schedules=list(kinds["schedule"].values()),
            scaler=scalers[0] if scalers else None,
            stand=_stand(path, kinds["engine"], kinds["optimizer"], lost),
            lost=lost,
        )

    def write(self, run: ForeignCheckpoint, target: Path, template: TrainSpec | nn.Module | None) -> list[str]:
        """Write a file for ``Checkpoint.load_objects``.

        Raises:
            CheckpointError: If an optimizer has the name of another part, or the length of the epoch is not known.
        """
        del template
        assert run.stand is not None  # noqa: S101 - for the type checker
        parts: list[tuple[str, Any]] = [("model", run.weights), *run.optimizers.items()]
        parts += zip(_schedule_names(run.content[KEY]["names"]["schedules"]), run.schedules, strict=True)
        if run.scaler is not None:
            parts.append(("scaler", run.scaler))
        parts.append((_TRAINER, _trainer(run.path, run.stand)))
        clashing = {name for name, _ in parts if [key for key, _ in parts].count(name) > 1}
        if clashing:
            raise CheckpointError(
                f"{run.path}: an optimizer is named {', '.join(sorted(clashing))}, which clashes with another entry"
                f" of Ignite's file.",
                hint="rename the submodule and its optimizer.",
            )
        left = list(run.lost)
        io.write(target, dict(parts), left)
        if run.stand.max_epochs is None:
            left.append("the number of epochs: pass it, as in run(data, max_epochs=10)")
        if run.stand.midway:
            warn_caller(f"{target} was written mid-epoch, and Ignite's format lacks {', '.join(left)}.")
        return left

    def write_weights(
        self, weights: dict[str, Any], target: Path, template: TrainSpec | nn.Module | None, lost: list[str]
    ) -> None:
        """Write a bare state_dict, as Ignite does where one object is saved."""
        del template
        io.write(target, weights, lost)


def _is_engine(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _ENGINE_KEYS and bool({"iteration", "epoch"} & value.keys())


_KINDS: dict[str, Callable[[Any], bool]] = {
    "optimizer": is_optimizer,
    "scaler": is_scaler,
    "schedule": is_schedule,
    "engine": _is_engine,
    "model": is_weights,
}
"""Classifies an entry of Ignite's file by its content; the first match wins."""


def _stand(
    path: Path, engines: dict[str, Any], optimizers: dict[str, dict[str, Any]], lost: list[str]
) -> TrainingPosition | None:
    if not engines:
        return None
    name = _TRAINER if _TRAINER in engines else next(iter(engines))
    if len(engines) > 1 and name != _TRAINER:
        raise CheckpointError(
            f"{path} contains several engines, {', '.join(map(repr, engines))}, and none is named {_TRAINER!r}.",
            hint=f"write the file with to_save={{{_TRAINER!r}: trainer, ...}}.",
        )
    state = engines[name]
    lost += [f"{other!r}: the state of another engine" for other in engines if other != name]
    length, most = state["epoch_length"], state["max_epochs"]
    if not length:
        raise CheckpointError(
            f"{path}: the engine {name!r} has no epoch length, so its position is unknown.",
            hint="write the file after an epoch.",
        )
    done = int(state["iteration"] if "iteration" in state else state["epoch"] * length)
    epochs, rest = divmod(done, length)
    counted = {key: counted_by(one) for key, one in optimizers.items()}
    steps = sum(done if number is None else number for number in counted.values()) if counted else done
    if len(counted) == 1 and None in counted.values():
        lost.append("the count of optimizer steps: assumed equal to the iterations, as without accumulation")
    stepped = max((done if number is None else min(number, done) for number in counted.values()), default=done)
    return TrainingPosition(epochs, rest or min(done, length), bool(rest), done, steps, stepped, length, most)


def _schedule_names(optimizers: list[str]) -> list[str]:
    """Return the keys of the schedules of ``optimizers``."""
    if len(optimizers) == 1:
        return ["lr_scheduler"]
    unique = len(set(optimizers)) == len(optimizers)
    return [f"lr_scheduler_{name if unique else number}" for number, name in enumerate(optimizers)]


def _trainer(source: Path, stand: TrainingPosition) -> dict[str, Any]:
    """Return the state of the Ignite engine: the iteration, or the epoch where the epochs differ in length.

    Without a number of epochs Ignite would start over; if none is known, it runs one more epoch.
    """
    length = stand.epoch_length or (None if stand.midway else stand.in_epoch)
    if not length:
        raise CheckpointError(
            f"{source} was written mid-epoch with an unknown epoch length, which an Ignite engine cannot resume.",
            hint="convert a checkpoint from the end of an epoch.",
        )
    exact = stand.batches == stand.epochs_done * length + (stand.in_epoch if stand.midway else 0)
    where = {"iteration": stand.batches} if exact else {"epoch": stand.epochs_done}
    return {"epoch_length": length, **where, "max_epochs": stand.max_epochs or stand.epochs_done + 1}
