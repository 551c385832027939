"""Checks files of LightningCLI before it parses them: it says less of a key that it does not know."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.compat.instantiator import refuse_instantiator
from unitrain.compat.trainer_arguments import old_spellings
from unitrain.errors import CheckpointError, ConfigError, did_you_mean
from unitrain.reports.run.record import FILE, read_record
from unitrain_bridges.lightning.cli_classes import taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitrain.backends.foreign import FrameworkFiles
    from unitrain_bridges.lightning.namespace import Parts

SECTIONS = ("fit", "validate", "test", "predict")
"""Subcommands of LightningCLI; a file may have a section for each."""

_KEYS = ("seed_everything", "trainer", "model", "data", "optimizer", "lr_scheduler")
_OBJECTS = frozenset({"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"})
"""Arguments of the Trainer's methods that are no keys."""

_CHECKPOINT = "ckpt_path"
_WORDS = ("last", "hpc", "registry")
"""How the values of ckpt_path begin that are no files."""


def check(files: FrameworkFiles, parts: Parts) -> None:
    """Refuse what LightningCLI would not read, or would fail on in the middle of a run.

    Raises:
        ConfigError: For an unknown key or option.
        CheckpointError: If there is no such checkpoint, or it names code.
    """
    known = {*_KEYS, *inspect.signature(getattr(parts.Trainer, files.stage)).parameters} - _OBJECTS | {"model", "data"}
    known -= {"self"}
    trainer = set(inspect.signature(parts.Trainer.__init__).parameters) - {"self"}
    for path, contents in _of_the_stage(files):
        _check_keys(path, contents, known)
        options = contents.get("trainer")
        if isinstance(options, dict):
            _check_trainer(path, options, trainer)
    _check_arguments(files, known, trainer)
    _check_checkpoint(files, parts)


def check_sections(files: FrameworkFiles) -> None:
    """Refuse files without a section for the stage, and files whose sections the parser would not read.

    Raises:
        ConfigError: For such a file.
    """
    sectioned = [[one for one in SECTIONS if one in contents] for contents in files.contents]
    for path, found, contents in zip(files.paths, sectioned, files.contents, strict=True):
        if found and files.stage not in found:
            raise ConfigError(
                f"{path} has sections for {', '.join(found)}, and none for {files.stage!r}.",
                hint=f"unitrain {found[0]} --config {path}",
            )
        if found and (others := contents.keys() - set(SECTIONS)):
            raise ConfigError(
                f"{path}: {min(others, key=str)!r} is beside the section {found[0]!r}; it must be in it.",
                hint="a file has sections for subcommands, or the keys of one.",
            )
    kinds = [bool(found) for found in sectioned]
    if kinds != sorted(kinds, reverse=True):
        raise ConfigError(
            f"{files.name}: a file with sections for subcommands must come before files without.",
            hint="change the order of --config.",
        )


def _of_the_stage(files: FrameworkFiles) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, contents in zip(files.paths, files.contents, strict=True):
        section = contents.get(files.stage)
        yield path, section if isinstance(section, dict) else contents


def _check_keys(path: str, contents: Mapping[str, Any], known: set[str]) -> None:
    for key in contents:
        if key not in known:
            raise ConfigError(
                f"{path}: unknown key {key!r}.",
                hint=f"{did_you_mean(str(key), known)} A key that a subclass of LightningCLI adds needs its script: "
                f"unitrain run SCRIPT --framework NAME -- fit --config {path}",
            )


def _check_trainer(path: str, options: Mapping[str, Any], known: set[str]) -> None:
    old = {str(key): value for key, value in options.items() if key not in known}
    if not old:
        return
    spellings = old_spellings(old)
    told = [f"trainer.{key}: {spellings.get(key) or did_you_mean(key, known)}" for key in old]
    raise ConfigError(f"{path}: this Lightning's Trainer does not take {', '.join(old)}.", hint="; ".join(told))


def _check_arguments(files: FrameworkFiles, known: set[str], trainer: set[str]) -> None:
    """Refuse options of unknown keys, and abbreviations."""
    for one in files.arguments:
        option = one.partition("=")[0].removesuffix("+")
        if not option.startswith("--"):
            continue
        key, _, rest = option.removeprefix("--").partition(".")
        if key not in known and not key.startswith("print_"):
            raise ConfigError(f"unknown option {option}.", hint=did_you_mean(key, known))
        name = rest.partition(".")[0]
        if key == "trainer" and name and name not in trainer:
            hint = old_spellings({name: one.partition("=")[2]}).get(name) or did_you_mean(name, trainer)
            raise ConfigError(f"unknown option {option}.", hint=hint)


def _check_checkpoint(files: FrameworkFiles, parts: Parts) -> None:
    path = _checkpoint(files)
    if path is None:
        return
    refuse_instantiator(path, parts.version)
    if path == "best":
        raise CheckpointError(
            f"{files.paths[-1]} is not in the folder of a run, so no checkpoint of it is the best.",
            hint=f"--{_CHECKPOINT} FILE, or --config FOLDER/config.yaml of a run.",
        )
    if not path.startswith(_WORDS) and "://" not in path and not Path(path).exists():
        raise CheckpointError(f"{_CHECKPOINT}: there is no file {path}.", hint=f"--{_CHECKPOINT} FILE")


def _checkpoint(files: FrameworkFiles) -> str | None:
    given = [contents[_CHECKPOINT] for _, contents in _of_the_stage(files) if contents.get(_CHECKPOINT)]
    found = taken(f"--{_CHECKPOINT}", files.arguments)[0] or next(reversed(given), None)
    return found if isinstance(found, str) else None


def with_checkpoint(files: FrameworkFiles) -> FrameworkFiles:
    """Return the files with the path of the checkpoint, if the best or the last one of their own run is asked for.

    Raises:
        CheckpointError: If the run has none.
    """
    asked = _checkpoint(files)
    folder = Path(files.paths[-1]).parent
    if asked not in ("best", "last") or not (folder / FILE).is_file():
        return files
    record = read_record(folder)
    path = {"best": record.best_checkpoint, "last": record.last_checkpoint}[asked]
    if path is None or not Path(path).exists():
        raise CheckpointError(
            f"the run in {folder} has no {asked} checkpoint{'' if path is None else f': {path} is gone'}.",
            hint=f"--{_CHECKPOINT} FILE",
        )
    _, rest = taken(f"--{_CHECKPOINT}", files.arguments)
    return replace(files, arguments=(*rest, f"--{_CHECKPOINT}={path}"))
