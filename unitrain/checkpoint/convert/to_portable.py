"""Converts the content of another program's file to the portable content, with the names and states of a model."""

from __future__ import annotations

import copy
import platform
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn

from unitrain.checkpoint.convert.foreign_checkpoint import (
    ForeignCheckpoint,
    TrainingPosition,
    counted_by,
)
from unitrain.checkpoint.convert.match_optimizers import BY_POSITION, by_name, named, require_fit
from unitrain.checkpoint.convert.match_weights import chosen, matched, without_model
from unitrain.checkpoint.gate import plain
from unitrain.checkpoint.hparams import plain_hparam
from unitrain.checkpoint.layout import FORMAT, KEY, LAYOUT_VERSION, PREFIX, VERSION, loops
from unitrain.errors import CheckpointError, SpecError
from unitrain.optim.optimizers import SINGLE, build_optimizers
from unitrain.optim.schedules import build_schedules
from unitrain.run.hub import Event
from unitrain.run.progress import Progress
from unitrain.spec import TrainSpec
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.optim import Optimizer

Template: TypeAlias = TrainSpec | nn.Module

_FRESH = TrainingPosition(0, 0, midway=False, batches=0, steps=0, stepped=0)


def model_of(template: Template | None) -> nn.Module | None:
    """Return the model of ``template``."""
    return template.model if isinstance(template, TrainSpec) else template


def names_of(taken: ForeignCheckpoint, template: Template | None, part: str | None) -> dict[str, str]:
    """Return the names in the file by those of the model.

    Raises:
        CheckpointError: If the file is of another model, or the names are ambiguous.
    """
    model, models = model_of(template), taken.models
    if models == (part,):
        part = None
    if model is not None:
        return matched(taken.path, taken.weights, model.state_dict(), part)
    if part is not None:
        return chosen(taken.path, taken.weights, part)
    if models is None or len(models) < 2:  # noqa: PLR2004 - one of them, or none
        return without_model(taken.path, taken.weights, certain=models is not None)
    raise CheckpointError(
        f"{taken.path} contains the models {', '.join(map(repr, models))}.",
        hint=f"choose one, for example part={models[0]!r}, or pass template=model with these submodules.",
    )


def renamed(taken: ForeignCheckpoint, names: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the weights by ``names``, and a line on unused ones, if there are any."""
    used = {*names.values()}
    over = [name for name in taken.weights if name not in used]
    lost = (
        [f"entries that are not part of the model: {', '.join(over[:6])}{' and more' if over[6:] else ''}"]
        if over
        else []
    )
    return {name: taken.weights[theirs] for name, theirs in names.items()}, lost


def assembled(
    taken: ForeignCheckpoint, template: Template | None, part: str | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the portable content of ``taken``, and descriptions of what cannot be converted.

    Raises:
        CheckpointError: If the file does not match ``template``, is ambiguous, or does not contain the run's progress.
    """
    names = names_of(taken, template, part)
    weights, lost = renamed(taken, names)
    states = _states(taken, template, {theirs: name for name, theirs in names.items()})
    optimizers, schedules, stand = states.optimizers, states.schedules, states.stand
    lost += states.lost
    content = {
        "epoch": stand.counts.epoch,
        "global_step": stand.steps,
        VERSION: LAYOUT_VERSION,
        "state_dict": {f"{PREFIX}{name}": value for name, value in weights.items()},
        "loops": loops(stand.counts),
        "callbacks": {},
        "optimizer_states": list(optimizers.values()),
        "lr_schedulers": [state for _, state in schedules],
        KEY: {
            "format": FORMAT,
            "versions": {"unitrain": __version__, "torch": str(torch.__version__), "python": platform.python_version()},
            "names": {"optimizers": list(optimizers), "schedules": [name for name, _ in schedules], "metrics": []},
            "progress": asdict(_progress(stand, taken.scaler)),
            "ranks": [],
            "run": {"epoch_length": stand.epoch_length, "max_epochs": stand.max_epochs, "order": None},
            "schedule_steps": [counted_by(optimizers[name]) or stand.stepped for name, _ in schedules],
            "hub": _hub(stand),
            "callbacks": {},
            "hparams": _hparams(taken, lost),
        },
    }
    return content, [*lost, *taken.lost, *taken.private]


def _progress(stand: TrainingPosition, scaler: dict[str, Any] | None) -> Progress:
    return Progress(epochs_done=stand.epochs_done, in_epoch=stand.in_epoch, midway=stand.midway, scaler=scaler)


def _hub(stand: TrainingPosition) -> dict[str, Any]:
    begun = stand.epochs_done + stand.midway
    counts = {
        Event.EPOCH_START: begun,
        Event.BATCH_START: stand.batches,
        Event.BACKWARD_END: stand.batches,
        Event.OPTIMIZER_STEP: stand.steps,
        Event.BATCH_END: stand.batches,
        Event.EPOCH_END: stand.epochs_done,
    }
    return {
        "epoch": max(begun - 1, 0),
        "step": stand.stepped,
        "batch": stand.batches,
        "metrics": {},
        "epoch_metrics": {},
        "counts": {event.value: count for event, count in counts.items() if count},
    }


def _hparams(taken: ForeignCheckpoint, lost: list[str]) -> dict[str, Any]:
    kept = {}
    for name, value in taken.hparams.items():
        try:
            kept[name] = plain_hparam(value)
        except SpecError:
            lost.append(f"the hyper-parameter {name!r}, a {type(value).__name__}")
    return kept


class _Meant(NamedTuple):
    """The target of an optimizer's state: the file (for messages), the model, and its names by those in the file."""

    path: Path
    model: nn.Module
    own: Mapping[str, str]


@dataclass(frozen=True)
class _States:
    """The states of a run other than its weights.

    Attributes:
        optimizers: The states of optimizers by name.
        schedules: The states of schedules, each with the name of its optimizer.
        stand: Progress of the run.
        lost: Descriptions of what cannot be converted.
    """

    optimizers: dict[str, Any]
    schedules: list[tuple[str, Any]]
    stand: TrainingPosition
    lost: list[str] = field(default_factory=list)


def _states(taken: ForeignCheckpoint, template: Template | None, own: Mapping[str, str]) -> _States:
    """Return the states of the optimizers and schedules of ``template``.

    Args:
        taken: The file's content.
        template: The target of the conversion.
        own: The model's names by those in the file.
    """
    if not isinstance(template, TrainSpec):
        return _unchecked(taken, template, own)
    built = {} if template.optimizer is None else build_optimizers(template)
    if not taken.optimizers:
        if not built:
            raise _nothing_to_go_on(taken.path)
        fresh = {name: one.state_dict() for name, one in built.items()}
        lost = ["the position of the run: it starts from the beginning with these weights"]
        return _States(fresh, _fresh_schedules(template, built), _FRESH, lost)
    stand = _stand(taken)
    given = _paired(taken, list(built))
    meant = _Meant(taken.path, template.model, own)
    found = _States({}, [], stand)
    for name, state in given.items():
        found.optimizers[name], lost = _fitted(meant, name, state, built[name].param_groups)
        found.lost.extend(lost)
    found.schedules.extend(_paired_schedules(taken, template, built))
    return found


def _unchecked(taken: ForeignCheckpoint, model: nn.Module | None, own: Mapping[str, str]) -> _States:
    """Return the states without a spec; a model checks a single optimizer of all its parameters."""
    if not taken.optimizers:
        raise _nothing_to_go_on(taken.path)
    stand = _stand(taken)
    names = [SINGLE] if len(taken.optimizers) == 1 else list(taken.optimizers)
    states, lost = dict(zip(names, taken.optimizers.values(), strict=True)), [BY_POSITION]
    if len(names) > 1 and taken.schedules:
        raise CheckpointError(
            f"{taken.path} holds {len(names)} optimizers and {len(taken.schedules)} schedules, but does not name"
            f" their parameters.",
            hint="pass template=spec, a TrainSpec with both.",
        )
    if model is not None and len(names) == 1:
        group = {"params": list(model.parameters())}
        states[SINGLE], lost = _fitted(_Meant(taken.path, model, own), SINGLE, states[SINGLE], [group])
    return _States(states, [(names[0], state) for state in taken.schedules], stand, lost)


def _nothing_to_go_on(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} only contains weights, so there is no run to resume.",
        hint="pass template=spec, a TrainSpec with its optimizer, to create a starting point;"
        ' or to="safetensors", and model.load_state_dict(unitrain.load_weights(path)).',
    )


def _stand(taken: ForeignCheckpoint) -> TrainingPosition:
    if taken.stand is None:
        raise CheckpointError(
            f"{taken.path} contains no trainer state, so the position of the run is unknown.",
            hint="in Ignite: Checkpoint({'trainer': trainer, ...}); part= and to=\"safetensors\" extract the weights.",
        )
    return taken.stand


def _paired(taken: ForeignCheckpoint, names: list[str]) -> dict[str, Any]:
    """Return the states of the file by the names of the spec's optimizers."""
    theirs = list(taken.optimizers)
    if len(theirs) != len(names):
        raise CheckpointError(
            f"{taken.path} holds {len(theirs)} optimizers ({', '.join(theirs)}), and the spec has {len(names)}:"
            f" {', '.join(names)}.",
            hint="pass the spec that the file was trained with.",
        )
    if {*theirs} == {*names}:
        return {name: taken.optimizers[name] for name in names}
    if len(names) > 1 and not taken.numbered:
        raise CheckpointError(
            f"{taken.path} holds the optimizers {', '.join(theirs)}, the spec has {', '.join(names)}: the names"
            f" cannot be matched.",
            hint="use the spec's names in the file: torch.save({**content, 'gen': content['optimizer_g']}, path).",
        )
    return dict(zip(names, taken.optimizers.values(), strict=True))


def _fitted(
    meant: _Meant, name: str, state: dict[str, Any], groups: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Return ``state`` as the ``groups`` of the optimizer have it: by names, else by position where it fits."""
    if not named(state):
        return state, [*require_fit(meant.path, name, state, groups), BY_POSITION]
    names = {id(parameter): key for key, parameter in meant.model.named_parameters()}
    ours = [[names[id(parameter)] for parameter in group["params"] if id(parameter) in names] for group in groups]
    return by_name(meant.path, state, ours, meant.own), []


def _fresh_schedules(spec: TrainSpec, built: Mapping[str, Optimizer]) -> list[tuple[str, Any]]:
    copies = {name: copy.deepcopy(one) for name, one in built.items()}
    return [(one.optimizer_name, plain(one.scheduler.state_dict())) for one in build_schedules(spec, copies)]


def _paired_schedules(
    taken: ForeignCheckpoint, spec: TrainSpec, built: Mapping[str, Optimizer]
) -> list[tuple[str, Any]]:
    """Return the file's schedules with the names of the spec's optimizers, if they are of the same kinds."""
    ours = _fresh_schedules(spec, built)
    if len(ours) != len(taken.schedules):
        raise CheckpointError(
            f"{taken.path} holds {len(taken.schedules)} learning-rate schedules of torch's, and the spec {len(ours)}.",
            hint="use the schedules that the file was trained with.",
        )
    for (name, fresh), state in zip(ours, taken.schedules, strict=True):
        if _public(fresh) != _public(state):
            raise CheckpointError(
                f"{taken.path}: the schedule of {name!r} has a different type: the file's has"
                f" {', '.join(sorted(_public(state)))}, and the spec's {', '.join(sorted(_public(fresh)))}.",
                hint="use the schedule that the file was trained with.",
            )
    return [(name, plain(state)) for (name, _), state in zip(ours, taken.schedules, strict=True)]


def _public(state: Mapping[str, Any]) -> set[str]:
    return {key for key in state if not key.startswith("_") and key != "verbose"}
