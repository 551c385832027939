"""The command line, ``unitrain COMMAND ...``; each command's module is imported on demand."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FAILED = 1
"""The exit status of a failed command; some commands document further statuses."""
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""
_PACKAGE = Path(__file__).parents[1]
UNREAD = 141
"""The exit status where nobody reads the output to its end, such as ``| head``, as shells have it."""


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: Its module, with ``add_arguments(parser)`` and ``run(arguments) -> exit status``.
        summary: One line, for ``unitrain --help``.
        passes_on: Whether arguments after ``--`` are for another program; the command gets them as ``rest``.
        settings: Prefix of options of any name, each with a value; the command gets them as ``settings``.
        reads: Whether the command reads its arguments itself; it gets them as ``rest``.
    """

    module: str
    summary: str
    passes_on: bool = False
    settings: str | None = None
    reads: bool = False


_CONFIGURATION = "unitrain.cli.configuration"
COMMANDS = {
    "init": Command("unitrain.cli.project.init", "write a small project that runs at once"),
    "fit": Command(f"{_CONFIGURATION}.fit", "train what YAML files describe", reads=True),
    "validate": Command(f"{_CONFIGURATION}.evaluation", "validate what YAML files describe", reads=True),
    "test": Command(f"{_CONFIGURATION}.evaluation", "test what YAML files describe", reads=True),
    "predict": Command(f"{_CONFIGURATION}.evaluation", "predict with what YAML files describe", reads=True),
    "compare": Command("unitrain.cli.compare", "compare trainings, or two checkpoints, bit by bit", reads=True),
    "convert": Command("unitrain.checkpoint.convert.command", "convert a checkpoint to the format of another program"),
    "export": Command(
        "unitrain.export.command", "export the model of a checkpoint for use without unitrain, and verify it"
    ),
    "doctor": Command("unitrain.cli.doctor.command", "report installed and dangerous releases, and how to fix them"),
    "migrate": Command("unitrain.migrate.command", "rewrite scripts for unitrain or for another framework"),
    "report": Command("unitrain.reports.command", "write the page of a run: one HTML file"),
    "tune": Command(
        "unitrain.tuning.command", "search hyper-parameters; show, join or export a study", settings="--trainer."
    ),
    "serve": Command("unitrain.serving.command", "serve exported models over HTTP"),
    "bench-serve": Command(
        "unitrain.serving.load.command", "measure a running service: requests per second and latencies"
    ),
    "bundle": Command("unitrain.deployment.bundle.command", "pack an exported model for a cloud, or check a bundle"),
    "deploy": Command("unitrain.deployment.commands.deploy", "deploy a bundle on this machine or in a cloud"),
    "undeploy": Command("unitrain.deployment.commands.undeploy", "remove a deployment"),
    "status": Command("unitrain.deployment.commands.status", "tell the state of a deployment"),
    "run": Command("unitrain.interop.command", "run an unchanged script on another framework", passes_on=True),
    "completion": Command("unitrain.cli.completion", "print a script that completes options in a shell"),
}


def parser(*names: str) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        *names: The commands whose arguments to add.
    """
    top = argparse.ArgumentParser(
        prog="unitrain",
        description="Write training once; run it on PyTorch-Lightning or PyTorch-Ignite with bit-identical results.",
        epilog="See `unitrain COMMAND --help` for the options of a command.",
    )
    top.add_argument("--version", action="version", version=f"unitrain {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, about in COMMANDS.items():
        one = commands.add_parser(
            command, help=about.summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if command in names:
            import_module(about.module).add_arguments(one)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The arguments; by default those of ``sys.argv``.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    name = next((one for one in given if one in COMMANDS), "")
    try:
        parsed = _parsed(given, name)
        with _short_warnings(parsed.command):
            status: int = import_module(COMMANDS[parsed.command].module).run(parsed)
        _flush()
    except BrokenPipeError:
        if not _is_unread():
            raise
        return UNREAD
    except UnitrainError as error:
        print(f"unitrain {name}: {error}", file=sys.stderr)  # noqa: T201 - that is its output
        return FAILED
    except KeyboardInterrupt:
        if COMMANDS[name].passes_on:  # a script ends as Python ends it
            raise
        print(f"unitrain {name}: interrupted.", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return status


@contextmanager
def _short_warnings(name: str) -> Iterator[None]:
    """Show a warning of unitrain without the line of its code, which says nothing to a user of the command line."""
    shown = warnings.formatwarning

    def short(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> str:
        is_ours = Path(filename).is_relative_to(_PACKAGE)
        return f"warning: {message}\n" if is_ours else shown(message, category, filename, *rest, **more)

    if not COMMANDS[name].passes_on:  # a script's are shown as Python shows them
        warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = shown


def _is_unread() -> bool:
    """Return whether nobody reads the output any more; then nothing more is written to it."""
    try:
        if sys.stdout is not None:
            sys.stdout.write("\n")  # what was written before may be lost already
        _flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _flush() -> None:
    if sys.stdout is not None:  # as where a service manager has closed it
        sys.stdout.flush()


def _parsed(given: list[str], name: str) -> argparse.Namespace:
    """Return the parsed arguments of a command."""
    command = COMMANDS.get(name, Command("", ""))
    after = given[given.index(name) + 1 :] if command.reads else []
    if command.reads and given[0] == name and not {"-h", "--help"} & {*after}:
        return argparse.Namespace(command=name, rest=after)
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
