"""What ``unitrain fit``, ``validate``, ``test`` and ``predict`` have in common."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration.command_line import CONFIG, Option, add_options, read_arguments, require_known
from unitrain.compat.blocked import check_blocked
from unitrain.distributed.world import world_here
from unitrain.errors import ConfigError, install_hint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from unitrain.cli.configuration.command_line import CommandLine
    from unitrain.cli.configuration.configuration import Built, Configuration
    from unitrain.cli.project.framework_files import FrameworkRun
    from unitrain.trainer import UnifiedTrainer

PRINT = "print_config"
COMMON = {
    "ckpt_path": Option("a checkpoint: its path; or best or last of the run whose config.yaml is given", "PATH"),
    PRINT: Option("print the complete configuration and do nothing else"),
}
_NOTE = """\
A configuration names classes and functions, which are imported and called: run only files that you trust.
See docs/cli.md for all keys."""


def add_arguments(parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> None:
    """Add the options to a parser, which is used for ``--help`` and for completion only."""
    from unitrain.backends.registry import adapter_names  # noqa: PLC0415 - it imports torch
    from unitrain.config import TrainerConfig  # noqa: PLC0415

    parser.usage = f"unitrain {parser.prog.split()[-1]} --config FILE [--config FILE ...] [--KEY VALUE ...]"
    parser.epilog = _NOTE
    add_options(parser, options)
    parser.add_argument("--framework", choices=adapter_names(), help="the backend that trains")
    parser.add_argument("--seed", metavar="NUMBER", help="sown before the model is built; drawn if none is given")
    keys = parser.add_argument_group("keys of the configuration", "each overrides the files; NAME+=VALUE appends")
    for key in ("model", "loss", "optimizer", "lr_scheduler", "metrics", "callbacks"):
        keys.add_argument(f"--spec.{key}", metavar="CLASS", help=f"and its arguments, such as --spec.{key}.NAME VALUE")
    keys.add_argument("--data", metavar="CLASS", help="and its arguments, such as --data.batch_size 32")
    for field in fields(TrainerConfig):
        if field.name != "seed":
            keys.add_argument(
                f"--trainer.{field.name}", metavar="VALUE", help=_first_sentence(field.name, TrainerConfig.__doc__)
            )


def _first_sentence(name: str, doc: str | None) -> str:
    text = " ".join((doc or "").partition("Attributes:")[2].partition("Raises:")[0].split())
    about = text.partition(f" {name}: " if f" {name}: " in text else f"{name}: ")[2]
    return about.partition(". ")[0].partition("; ")[0].replace("%", "%%").replace("``", "").rstrip(".")


def given_line(command: str, arguments: argparse.Namespace, options: Mapping[str, Option]) -> CommandLine:
    """Return the command line.

    Raises:
        ConfigError: If it is invalid, or the package is missing that reads configurations.
    """
    line = read_arguments(command, arguments.rest, options)
    require_packages(f"unitrain {command}")
    foreign = found_files(command, line) if line.paths else None
    if foreign is not None:
        return replace(line, foreign=foreign)
    require_known(line, options)
    if not line.paths:
        raise ConfigError(
            f"{CONFIG} is missing.", hint=f"unitrain {command} {CONFIG} run.yaml; `unitrain init` writes one."
        )
    return line


def require_packages(what: str) -> None:
    """Refuse to read a configuration without the packages that read it.

    Raises:
        ConfigError: If one is missing.
    """
    for package in ("jsonargparse", "yaml"):
        if find_spec(package) is None:
            raise ConfigError(f"{what} needs {package}.", hint=install_hint("cli"))


def found_files(command: str, line: CommandLine) -> FrameworkRun | None:
    """Return the run of files of a framework's own command line, such as LightningCLI; None if they are unitrain's."""
    from unitrain.cli.project.framework_files import framework_run  # noqa: PLC0415 - it needs yaml

    named = [one.text for one in line.overrides if one.key == ("framework",)]
    return framework_run(command, line.paths, line.others, next(reversed(named), None))


def loaded(line: CommandLine) -> Configuration:
    """Return the configuration of a command line, and print its notes."""
    from unitrain.cli.configuration.configuration import load  # noqa: PLC0415 - after what is cheap to refuse

    check_blocked()  # the modules that the file names may import it
    configuration = load(line.paths, line.overrides)
    for note in configuration.notes if is_first() else ():
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - a command
    return configuration


def require_framework(configuration: Configuration) -> str:
    """Return the name of the backend.

    Raises:
        ConfigError: If none is named.
    """
    if configuration.framework is None:
        raise ConfigError(
            "framework is missing.", hint="--framework lightning, ignite or reference; or a key of the file."
        )
    return configuration.framework


def checkpoint(line: CommandLine, built: Built) -> Path | None:
    """Return the file that ``--ckpt_path`` names, if it is given."""
    from unitrain.cli.configuration.run_folders import checkpoint_of, home_of  # noqa: PLC0415 - after `--help`

    given = line.options.get("ckpt_path")
    return None if given is None else checkpoint_of(given, home_of(line.paths), built)


def trainer(configuration: Configuration, options: dict[str, Any]) -> UnifiedTrainer:
    """Return the trainer.

    Raises:
        UnitrainError: If the backend does not support an option.
    """
    from unitrain.trainer import UnifiedTrainer  # noqa: PLC0415 - after `--help`

    with configuration.places.naming(("trainer",), options):
        return UnifiedTrainer(require_framework(configuration), **options)


def require_one_seed(configuration: Configuration) -> None:
    """Refuse to draw a seed on each of several processes.

    Raises:
        ConfigError: If there is no seed, and several processes.
    """
    world = world_here()
    if configuration.seed is None and world is not None and world.size > 1:
        raise ConfigError("several processes need the same seed, and none is given.", hint="--seed 0")


def is_first() -> bool:
    """Return whether this process is the one that prints and writes."""
    world = world_here()
    return world is None or world.rank == 0
