"""``upgrade``: converts modules, configs and checkpoints written for an older Lightning."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.backends.registry import bridge_of
from unitrain.checkpoint.convert.codecs import by_form, take
from unitrain.checkpoint.convert.conversion import convert_checkpoint
from unitrain.compat.trainer_arguments import old_spellings, today
from unitrain.config import TrainerConfig
from unitrain.errors import CheckpointError, ConfigError, refuse_unknown
from unitrain.utilities.files import user_path
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable


def upgrade(given: Any, version: str, *, to: str | Path | None = None) -> Any:
    """Convert a module, config or checkpoint written for Lightning ``version`` to its current equivalent.

    - A LightningModule (of either package): ``training_epoch_end`` and the other hooks that 2.0 removed are called as
      they were. An instance is changed in place and returned; for a class a new one is returned.
    - A config: a dict (or Namespace) of a Trainer's arguments becomes one of UnifiedTrainer's.
    - A checkpoint, by its path: a new file is written, and its path returned; the old one is unchanged.

    Args:
        given: The module, config or path of a checkpoint.
        version: The Lightning version it was written for: ``"1.x"`` or ``"2.x"``.
        to: Path of the new checkpoint; by default ``NAME.upgraded.ckpt`` beside the old one.

    Raises:
        ConfigError: If the version is not one of these, ``given`` is none of the three, or something in it has no
            current equivalent, which the message names.
        CheckpointError: If the file cannot be read, is not a Lightning checkpoint, or was written by another version.

    Example:
        >>> upgrade({"max_nb_epochs": 3, "gpus": 0}, "1.x")
        {'max_epochs': 3, 'accelerator': 'cpu'}
    """
    handlers = _HANDLERS.get(version) if isinstance(version, str) else None
    if handlers is None:
        accepted = ", ".join(map(repr, _HANDLERS))
        near = next((one for one in _HANDLERS if one[0] == str(version)[:1]), next(iter(_HANDLERS)))
        raise ConfigError(f"upgrade(version={version!r}) is not supported; accepted are {accepted}.", hint=f'"{near}"')
    if isinstance(given, (str, Path)):
        return handlers.checkpoint(user_path(given), None if to is None else user_path(to))
    if to is not None:
        raise ConfigError(f"upgrade(to={str(to)!r}) only applies to checkpoints.", hint="remove it.")
    if isinstance(given, argparse.Namespace):
        return handlers.config(vars(given))
    return handlers.config(given) if isinstance(given, Mapping) else handlers.module(given)


# --- modules ----------------------------------------------------------------------------------------------------------


def _module(version: str) -> Callable[[Any], Any]:
    def handle(code: Any) -> Any:
        bridge = bridge_of(code if isinstance(code, type) else type(code))
        made = None if bridge is None else bridge.upgrades.get(version)
        if made is None:
            shown = code.__name__ if isinstance(code, type) else f"a {type(code).__name__}"
            raise ConfigError(
                f"upgrade takes a LightningModule, a dict of Trainer arguments or a checkpoint's path; got {shown}.",
                hint="`unitrain migrate` rewrites scripts, including Ignite's.",
            )
        return made(code)

    return handle


# --- configs ----------------------------------------------------------------------------------------------------------


def _config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the current options for the arguments of a Trainer, and warn of omitted ones."""
    options: dict[str, Any] = {}
    left: list[str] = []
    for name, value in given.items():
        now = today(name, value)
        if now is not None and now.by_hand:
            raise ConfigError(f"upgrade: {name}={value!r} has no equivalent option.", hint=now.by_hand)
        new = {name: value} if now is None else dict(now.options)
        if not new and now is not None:
            left.append(f"{name}={value!r} ({now.reason})")
        for one, what in new.items():
            if options.setdefault(one, what) != what:
                raise ConfigError(
                    f"upgrade: {name}={value!r} means {one}={what!r}, but another argument means"
                    f" {one}={options[one]!r}.",
                    hint=f"set {one}= once.",
                )
    refuse_unknown(options, [one.name for one in fields(TrainerConfig)], "upgrade", ConfigError, old_spellings(options))
    TrainerConfig(**{**options, "loggers": ()})  # each value is looked at; native trackers are adopted by the trainer
    if left:
        warn_caller(f"upgrade dropped {', '.join(left)}.")
    return options


# --- checkpoints ------------------------------------------------------------------------------------------------------


def _checkpoint(major: tuple[str, ...]) -> Callable[[Path, Path | None], Path]:
    def handle(source: Path, to: Path | None) -> Path:
        taken = take(source)
        if not by_form()[taken.form].rewrites or taken.written_by is None:
            raise CheckpointError(
                f"{source} is not a Lightning file, but {taken.form!r}.",
                hint="`unitrain convert` converts other formats.",
            )
        program, wrote = taken.written_by
        if wrote.partition(".")[0] not in major:
            other = "2.x" if wrote.startswith("2.") else "1.x"
            raise CheckpointError(f"{source} was written by {program} {wrote}.", hint=f'upgrade(path, "{other}")')
        target = source.with_name(f"{source.stem}.upgraded.ckpt") if to is None else to
        if target.exists():
            raise CheckpointError(f"{target} already exists.", hint="upgrade(path, version, to=another)")
        lost = convert_checkpoint(source, target, taken.form)
        if lost:
            warn_caller(f"{target} does not contain {'; '.join(lost)}.")
        return target

    return handle


class _Handlers(NamedTuple):
    """What upgrades the three kinds of things of one version."""

    module: Callable[[Any], Any]
    config: Callable[[Mapping[str, Any]], dict[str, Any]]
    checkpoint: Callable[[Path, Path | None], Path]


_HANDLERS = {
    "1.x": _Handlers(_module("1.x"), _config, _checkpoint(("0", "1"))),
    "2.x": _Handlers(_module("2.x"), _config, _checkpoint(("2",))),
}
"""Keyed by the version that something was written for."""
