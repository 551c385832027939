"""What a file of another program holds, in one form, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor

from unitrain.checkpoint.convert import safe_reading as foreign
from unitrain.checkpoint.convert.match_optimizers import is_optimizer
from unitrain.checkpoint.layout import KEY, Counts, loops
from unitrain.errors import CheckpointError, install_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Form: TypeAlias = Literal["portable", "lightning", "ignite", "weights"]

VERSION = "pytorch-lightning_version"
_LIGHTNING_KEYS = {"epoch", "global_step", VERSION, "legacy_pytorch-lightning_version", "state_dict", "loops"}
_LIGHTNING_KEYS |= {"optimizer_states", "lr_schedulers", "callbacks", "hparams_name", "hparams_type"}
HPARAMS = "hyper_parameters"
_INSTANTIATOR = "_instantiator"
_SCALER_KEYS = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
_ENGINE_KEYS = {"epoch_length", "max_epochs"}
_TRAINER = "trainer"


@dataclass(frozen=True)
class TrainingPosition:
    """Where a run stood.

    Attributes:
        epochs_done: Whole epochs behind.
        in_epoch: Batches done in the running epoch, or in the one that just ended.
        midway: Whether the epoch is to go on.
        batches: Batches done in the run.
        steps: Optimizer steps, summed over the optimizers.
        stepped: Batches after which any optimizer stepped.
        epoch_length: Batches of an epoch, if it is known.
        max_epochs: How many epochs the run was to have, if it is known.
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
        """What Lightning's loops would have counted."""
        return Counts(
            epoch=self.epochs_done if self.midway else max(self.epochs_done - 1, 0),
            batches=self.batches,
            batches_in_epoch=self.in_epoch,
            steps=self.steps,
            midway=self.midway,
            validated=False,
        )


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a file holds.

    Attributes:
        path: The file.
        form: Who wrote it.
        content: All of it.
        weights: By the names in the file.
        models: The models of Ignite's file; the names of several stand before those of their weights. None if it is not
            known whether the names are a model's own.
        optimizers: Their states by name; Lightning's are numbered.
        schedules: The states of torch's schedulers.
        scaler: That of the gradient scaler.
        stand: Where the run stood, if that is in the file.
        hparams: The hyper-parameters.
        lost: What cannot be carried.
    """

    path: Path
    form: Form
    content: dict[str, Any]
    weights: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    optimizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] | None = None
    stand: TrainingPosition | None = None
    hparams: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def take(path: Path) -> ForeignCheckpoint:
    """Return what the file at ``path`` holds.

    Raises:
        CheckpointError: If it cannot be read, or its form is not known.
    """
    given = foreign.read(path)
    form = form_of(path, given)
    try:
        return _TAKERS[form](path, given)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} looks like a file of the form {form!r}, but is not put together as one: {error!r}.",
            hint="write it anew with the program that wrote it.",
        ) from error


def form_of(path: Path, content: dict[str, Any]) -> Form:
    """Return who wrote ``content``.

    Raises:
        CheckpointError: If that is not known.
    """
    if isinstance(content.get(KEY), dict):
        return "portable"
    if isinstance(content.get("state_dict"), dict) and ({VERSION, "optimizer_states", "loops"} & content.keys()):
        return "lightning"
    if _is_weights(content):
        return "weights"
    if any(map(_is_weights, content.values())):
        return "ignite"
    keys = ", ".join(map(repr, list(content)[:12])) or "nothing"
    raise CheckpointError(
        f"{path} has none of the known forms; it holds {keys}.",
        hint="known are unitrain's, Lightning's, Ignite's ({name: state_dict}), a bare state_dict and .safetensors.",
    )


def _is_weights(value: Any) -> bool:
    """Return whether ``value`` is the state of a model."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    tensors = sum(isinstance(one, Tensor) for one in value.values())
    states = sum(key.endswith("_extra_state") for key in value)
    return bool(tensors) and tensors + states == len(value) and not _is_scaler(value)


def _is_scaler(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == _SCALER_KEYS


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and "last_epoch" in value


def _is_engine(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _ENGINE_KEYS and bool({"iteration", "epoch"} & value.keys())


def _from_weights(path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
    return ForeignCheckpoint(path, "weights", content, weights=content, models=())


def _from_portable(path: Path, content: dict[str, Any]) -> ForeignCheckpoint:
    return ForeignCheckpoint(path, "portable", content)


def _from_lightning(path: Path, given: dict[str, Any]) -> ForeignCheckpoint:
    changed: list[str] = []
    content = foreign.made_plain(given, "", changed)
    lost = [f"{place}: its kind (it became plain)" for place in changed]
    content, counted = _upgraded(path, content)
    if not counted:
        lost.append(_NO_COUNTERS)
    hparams = dict(content.get(HPARAMS) or {})
    if _INSTANTIATOR in hparams:
        del hparams[_INSTANTIATOR]
        lost.append(f"the hyper-parameter {_INSTANTIATOR!r}, which names code to import (CVE-2026-58659)")
    if HPARAMS in content:
        content[HPARAMS] = hparams
    scalers = [key for key, value in content.items() if _is_scaler(value)]
    stand = _lightning_stand(content, lost) if counted else _stand_by_steps(content)
    if stand is not None and not counted:  # without them today's Lightning begins with the first epoch
        content |= {"loops": loops(stand.counts), "epoch": stand.counts.epoch}
    return ForeignCheckpoint(
        path,
        "lightning",
        content,
        weights=content["state_dict"],
        optimizers={str(number): state for number, state in enumerate(content.get("optimizer_states", []))},
        schedules=list(content.get("lr_schedulers", [])),
        scaler=content[scalers[0]] if scalers else None,
        stand=stand,
        hparams=hparams,
        lost=lost,
    )


def private(content: Mapping[str, Any]) -> list[str]:
    """Return what only the writer of a file of Lightning's understands."""
    known = _LIGHTNING_KEYS | {HPARAMS}
    callbacks = content.get("callbacks") or {}
    told = [f"the state of {name.partition('{')[0]}" for name, state in callbacks.items() if state]
    return told + [
        f"{key!r}, which only its writer understands"
        for key, value in content.items()
        if key not in known and not _is_scaler(value)
    ]


def _upgraded(path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return ``content`` as the installed Lightning would have written it, and whether it counts batches."""
    version = str(content.setdefault(VERSION, "0.0.0"))
    migrate = _migration()
    if migrate is not None:
        counted = "loops" in content
        return migrate(content), counted
    if version.partition(".")[0] in ("0", "1"):
        raise CheckpointError(
            f"{path} was written by Lightning {version}; Lightning itself knows how to bring it up to date.",
            hint=install_hint("lightning"),
        )
    return content, True


_NO_COUNTERS = (
    "the counts of batches, which Lightning below 1.5 did not write: they are taken to be the optimizer's steps, as"
    " they are without accumulation, and the file to be from the end of an epoch"
)


def _migration() -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """Return what brings Lightning's files up to date, if Lightning is installed."""
    for entry in entry_points(group="unitrain.adapters", name="lightning"):
        try:
            found: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(entry.load(), "upgrade_checkpoint", None)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("unitrain"):
                raise
            return None
        return found
    return None


def _lightning_stand(content: dict[str, Any], lost: list[str]) -> TrainingPosition | None:
    loop = (content.get("loops") or {}).get("fit_loop")
    if loop is None:
        return None
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    total, here = batches["total"]["processed"], batches["current"]["processed"]
    steps = int(content["global_step"])
    started, done = epochs["started"], epochs["processed"]
    midway = started > done and not batches.get("is_last_batch")
    behind = done if midway else started
    if done != started and not midway:
        lost.append("the very end of its epoch: a schedule that waits for a metric has not stepped for it")
    return TrainingPosition(behind, here, midway, total, steps, min(steps, total), None if midway else here)


def _stand_by_steps(content: dict[str, Any]) -> TrainingPosition | None:
    """Return where the run stood if each batch was a step, in a file without counts of batches."""
    loop = (content.get("loops") or {}).get("fit_loop")
    if loop is None:
        return None
    done, steps = loop["epoch_progress"]["current"]["completed"], int(content["global_step"])
    length = steps // done if done and steps % done == 0 else None
    return TrainingPosition(
        done, length or 0, midway=False, batches=steps, steps=steps, stepped=steps, epoch_length=length
    )


def _from_ignite(path: Path, given: dict[str, Any]) -> ForeignCheckpoint:
    changed: list[str] = []
    content = foreign.made_plain(given, "", changed)
    kinds: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    lost = [f"{place}: its kind (it became plain)" for place in changed]
    for name, value in content.items():
        kind = next((kind for kind, is_one in _KINDS.items() if is_one(value)), None)
        if kind is not None:
            kinds[kind][name] = value
        elif name != "checkpointer":
            lost.append(f"{name!r}, which only its writer understands")
    models = kinds["model"]
    one = next(iter(models.values())) if len(models) == 1 else None
    union = {f"{part}.{name}": value for part, state in models.items() for name, value in state.items()}
    scalers = list(kinds["scaler"].values())
    return ForeignCheckpoint(
        path,
        "ignite",
        content,
        weights=union if one is None else one,
        models=tuple(models),
        optimizers=kinds["optimizer"],
        schedules=list(kinds["schedule"].values()),
        scaler=scalers[0] if scalers else None,
        stand=_ignite_stand(path, kinds["engine"], kinds["optimizer"], lost),
        lost=lost,
    )


_KINDS: dict[str, Callable[[Any], bool]] = {
    "optimizer": is_optimizer,
    "scaler": _is_scaler,
    "schedule": _is_schedule,
    "engine": _is_engine,
    "model": _is_weights,
}
"""What a part of Ignite's file is, by what is in it; the first that it is."""


def _ignite_stand(
    path: Path, engines: dict[str, Any], optimizers: dict[str, dict[str, Any]], lost: list[str]
) -> TrainingPosition | None:
    if not engines:
        return None
    name = _TRAINER if _TRAINER in engines else next(iter(engines))
    if len(engines) > 1 and name != _TRAINER:
        raise CheckpointError(
            f"{path} holds several engines, {', '.join(map(repr, engines))}, and none is named {_TRAINER!r}.",
            hint=f"write the file with to_save={{{_TRAINER!r}: trainer, ...}}.",
        )
    state = engines[name]
    lost += [f"{other!r}: the state of another engine" for other in engines if other != name]
    length, most = state["epoch_length"], state["max_epochs"]
    if not length:
        raise CheckpointError(
            f"{path}: the engine {name!r} does not say how long an epoch is, so where it stood is not known.",
            hint="write the file after an epoch.",
        )
    done = int(state["iteration"] if "iteration" in state else state["epoch"] * length)
    epochs, rest = divmod(done, length)
    counted = {key: counted_by(one) for key, one in optimizers.items()}
    steps = sum(done if number is None else number for number in counted.values()) if counted else done
    if len(counted) == 1 and None in counted.values():
        lost.append("the count of optimizer steps: it is taken to be the iterations, as it is without accumulation")
    stepped = max((done if number is None else min(number, done) for number in counted.values()), default=done)
    return TrainingPosition(epochs, rest or min(done, length), bool(rest), done, steps, stepped, length, most)


def counted_by(state: dict[str, Any]) -> int | None:
    """Return how often an optimizer has stepped, if it counts that itself, as Adam does."""
    found = [int(one["step"]) for one in state["state"].values() if isinstance(one, dict) and "step" in one]
    return max(found) if found else None


_TAKERS: dict[Form, Callable[[Path, dict[str, Any]], ForeignCheckpoint]] = {
    "portable": _from_portable,
    "lightning": _from_lightning,
    "ignite": _from_ignite,
    "weights": _from_weights,
}
