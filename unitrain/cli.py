"""The command line, ``unitrain COMMAND ...``; each command's module is imported on demand."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from unitrain.errors import UnitrainError

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
    """

    module: str
    summary: str
    passes_on: bool = False


COMMANDS = {
    "convert": Command("unitrain.checkpoint.convert.command", "convert a checkpoint to the format of another program"),
    "export": Command(
        "unitrain.export.command", "export the model of a checkpoint for use without unitrain, and verify it"
    ),
    "doctor": Command("unitrain.doctor.command", "report what is installed, what is dangerous, and how to fix it"),
    "migrate": Command("unitrain.migrate.command", "rewrite scripts for unitrain or for another framework"),
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
    name = next((one for one in given if one in COMMANDS), None)
    passes_on = name is not None and COMMANDS[name].passes_on
    end = given.index("--") if passes_on and "--" in given else len(given)
    reading, own = parser(name), given[:end]
    # what is none of ours belongs to the script, with `--` before it or without
    parsed, rest = reading.parse_known_args(own) if passes_on else (reading.parse_args(own), [])
    parsed.rest = [*rest, *given[end + 1 :]]
    try:
        status: int = import_module(COMMANDS[parsed.command].module).run(parsed)
    except UnitrainError as error:
        print(f"unitrain {parsed.command}: {error}", file=sys.stderr)  # noqa: T201 - that is its output
        return FAILED
    return status
