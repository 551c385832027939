"""The command line, ``unitrain COMMAND ...``; each command's module is imported on demand."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from unitrain.errors import ConfigError, UnitrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1
"""The exit status of a failed command; some commands document further statuses."""


class Command(NamedTuple):
    """A command.

    Attributes:
        module: Where it is: ``add_arguments(parser)`` and ``run(arguments) -> exit status``.
        summary: One line, for ``unitrain --help``.
        passes_on: Whether what stands after ``--`` is for another program; the command finds it as ``rest``.
        settings: What options of any name start with, each with a value; the command finds them as ``settings``.
    """

    module: str
    summary: str
    passes_on: bool = False
    settings: str | None = None


COMMANDS = {
    "convert": Command("unitrain.checkpoint.convert.command", "convert a checkpoint to the format of another program"),
    "export": Command(
        "unitrain.export.command", "export the model of a checkpoint for use without unitrain, and verify it"
    ),
    "doctor": Command("unitrain.doctor.command", "report what is installed, what is dangerous, and how to fix it"),
    "migrate": Command("unitrain.migrate.command", "rewrite scripts for unitrain or for another framework"),
    "tune": Command(
        "unitrain.tuning.command", "search hyper-parameters; show, join or export a study", settings="--trainer."
    ),
    "run": Command("unitrain.interop.command", "run an unchanged script on another framework", passes_on=True),
}


def parser(name: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        name: The command whose arguments it is to know.
    """
    top = argparse.ArgumentParser(
        prog="unitrain",
        description="Write training once; run it on PyTorch-Lightning or PyTorch-Ignite with bit-identical results.",
        epilog="See `unitrain COMMAND --help` for the options of a command.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, about in COMMANDS.items():
        one = commands.add_parser(
            command, help=about.summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if command == name:
            import_module(about.module).add_arguments(one)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What was typed; ``sys.argv`` by default.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = next((one for one in given if one in COMMANDS), "")
    try:
        parsed = _parsed(given, name)
        status: int = import_module(COMMANDS[parsed.command].module).run(parsed)
    except UnitrainError as error:
        print(f"unitrain {name}: {error}", file=sys.stderr)  # noqa: T201 - that is its output
        return FAILED
    return status


def _parsed(given: list[str], name: str) -> argparse.Namespace:
    """Return what was typed for a command."""
    command = COMMANDS.get(name, Command("", ""))
    settings = {} if command.settings is None else _taken(given, command.settings)
    end = given.index("--") if command.passes_on and "--" in given else len(given)
    reading, own = parser(name), given[:end]
    # what is none of ours belongs to the script, with `--` before it or without
    parsed, rest = reading.parse_known_args(own) if command.passes_on else (reading.parse_args(own), [])
    parsed.rest, parsed.settings = [*rest, *given[end + 1 :]], settings
    return parsed


def _taken(given: list[str], prefix: str) -> dict[str, str]:
    """Take the options that start with ``prefix`` out of ``given``, and return their values by the rest of the name.

    Raises:
        ConfigError: If one has no value.
    """
    found: dict[str, str] = {}
    while (index := next((at for at, one in enumerate(given) if one.startswith(prefix)), None)) is not None:
        option, equals, value = given.pop(index).partition("=")
        if not equals:
            if index == len(given) or given[index].startswith("--"):
                raise ConfigError(f"{option} needs a value.", hint=f"{option} VALUE")
            value = given.pop(index)
        found[option.removeprefix(prefix)] = value
    return found
