"""``unitrain fit``: train what configuration files describe."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration import command
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.import_path import importable

if TYPE_CHECKING:
    import argparse

    from unitrain.cli.configuration.command_line import CommandLine
    from unitrain.cli.configuration.configuration import Built, Configuration
    from unitrain.cli.configuration.run_folders import RunFolder
    from unitrain.run.result import FitResult

_DESCRIPTION = """\
Train what YAML files describe. Options override the files: --trainer.max_epochs 3, --spec.optimizer.lr 0.01.

Files of LightningCLI are read, too: they run as LightningCLI runs them, on any framework.

The run gets a folder, runs/N: config.yaml (complete, so that it reproduces the run), run.json, metrics.csv and
checkpoints.

--ckpt_path resumes a checkpoint, in a new folder. The config.yaml of a resumed run says what was trained and not from
where: it needs the same --ckpt_path again, which run.json has as "resumed_from". Without it, training starts anew."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command, for ``--help``."""
    parser.description = _DESCRIPTION
    command.add_arguments(parser, command.COMMON)


def run(arguments: argparse.Namespace) -> int:
    """Train, and return the exit status.

    Raises:
        UnitrainError: If anything is invalid; then nothing was trained and nothing is written.
    """
    with importable():
        line = command.given_line("fit", arguments, command.COMMON)
        if line.foreign is not None:
            _report(line.foreign.run())
            return 0
        configuration = command.loaded(line)
        if command.PRINT in line.options:
            print(configuration.text, end="")  # noqa: T201 - a command
            return 0
        return _fitted(line, configuration)


def _report(result: FitResult | None) -> None:
    """Print the result of a framework's own files; there is none if only their configuration was asked for."""
    if result is not None and command.is_first():
        print(result)  # noqa: T201 - a command


def _fitted(line: CommandLine, configuration: Configuration) -> int:
    from unitrain.backends.registry import find_adapter  # noqa: PLC0415 - after `--help`
    from unitrain.cli.configuration.configuration import require_fit  # noqa: PLC0415
    from unitrain.cli.configuration.run_folders import with_keeper  # noqa: PLC0415

    find_adapter(command.require_framework(configuration))
    require_fit(configuration)
    command.require_one_seed(configuration)
    configuration = configuration.seeded()
    built = with_keeper(configuration.build())
    checkpoint = command.checkpoint(line, built)
    if checkpoint is None and command.is_first():
        _note_origin(line)
    if built.trainer_options["fast_dev_run"] or not command.is_first():
        result = _trained(configuration, built, checkpoint, None)
        if command.is_first():
            print(result)  # noqa: T201 - a command
        return _status(result, "")
    return _recorded(configuration, built, checkpoint)


def _note_origin(line: CommandLine) -> None:
    """Say that the run whose configuration is given was resumed, and this one starts anew."""
    from unitrain.cli.configuration.run_folders import home_of, origin_of  # noqa: PLC0415 - after `--help`

    home = home_of(line.paths)
    origin = origin_of(home)
    if origin is not None:
        told = f"note: {home} was resumed from {origin}; without --ckpt_path, this run starts anew."
        print(told, file=sys.stderr)  # noqa: T201 - a command


def _recorded(configuration: Configuration, built: Built, checkpoint: Any) -> int:
    """Train in a new run folder."""
    from unitrain.cli.configuration.run_folders import new_run  # noqa: PLC0415 - after `--help`
    from unitrain.utilities.warned import warnings_noted  # noqa: PLC0415

    title = str(built.spec.model if built.is_spec else built.spec)
    folder = new_run(built.trainer_options["default_root_dir"], configuration, title)
    folder = replace(folder, resumed_from=None if checkpoint is None else str(checkpoint))
    with warnings_noted() as warned:
        try:
            result = _trained(configuration, built, checkpoint, folder)
        except BaseException as error:
            if isinstance(error, UnitrainError) and not built.is_spec:
                folder.remove()  # if nothing else is in it, the framework has not begun
            folder.end(error, warned)
            if isinstance(error, KeyboardInterrupt):
                kept = f"; {folder.path} has what was written until then" if folder.path.exists() else ""
                raise ConfigError(f"interrupted{kept}.") from error
            raise
    folder.end(result, warned)
    if checkpoint is not None and _is_idle(result):
        print(f"note: nothing was trained: {checkpoint} has reached {result.stopped_by}.", file=sys.stderr)  # noqa: T201
    print(f"{result}\n{folder.path} has {folder.contents}.")  # noqa: T201
    return _status(result, f"unitrain fit --config {folder.path}/config.yaml --ckpt_path last resumes it.")


def _is_idle(result: FitResult) -> bool:
    """Return whether a resumed run had nothing left to do."""
    from unitrain.reports.run.facts import facts_of  # noqa: PLC0415 - after `--help`

    facts = facts_of(result)
    return facts is not None and facts.log is not None and not facts.log.times and not facts.interrupted


def _status(result: FitResult, hint: str) -> int:
    """Return the exit status of a run.

    Raises:
        ConfigError: If Ctrl-C or a signal stopped it.
    """
    from unitrain.reports.run.facts import facts_of  # noqa: PLC0415 - after `--help`
    from unitrain.run.stopping import SIGNAL  # noqa: PLC0415

    facts = facts_of(result)
    if facts is not None and facts.interrupted:
        by = "a signal" if result.stopped_by == SIGNAL else "Ctrl-C"
        raise ConfigError(f"{by} stopped the run before its end.", hint=hint or None)
    return 0


def _trained(configuration: Configuration, built: Built, checkpoint: Any, folder: RunFolder | None) -> FitResult:
    from unitrain.loggers.csv import in_folder  # noqa: PLC0415 - after `--help`
    from unitrain.run.hub import Event  # noqa: PLC0415

    options = dict(built.trainer_options)
    if folder is not None:
        options = {"loggers": [in_folder(folder.path)], **options, "default_root_dir": folder.path}
    trainer = command.trainer(configuration, options)
    if folder is not None and built.is_spec:
        trainer.on(Event.FIT_START, folder.begin)
    elif folder is not None:
        folder.write_record()  # other code has its framework's events
    return trainer.fit(built.spec, built.train, built.val, ckpt_path=checkpoint)
