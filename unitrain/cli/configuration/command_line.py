"""Reads the command line of ``unitrain fit`` and its like: configuration files, then overrides of any key.

argparse is not used: it accepts abbreviations, knows only options that were declared, and forgets the order of options.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

from unitrain.errors import ConfigError, alike, did_you_mean
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.cli.project.framework_files import FrameworkRun

CONFIG = "--config"
ROOTS = ("framework", "seed", "trainer", "spec", "data")
"""The keys of a configuration."""
_OF_SECTIONS = {
    "lr": "--spec.optimizer.lr",
    "learning_rate": "--spec.optimizer.lr",
    "weight_decay": "--spec.optimizer.weight_decay",
    "momentum": "--spec.optimizer.momentum",
    "optimizer": "--spec.optimizer",
    "model": "--spec.model",
    "loss": "--spec.loss",
    "batch_size": "--data.batch_size",
}
"""Options that other programs have, and the usual keys of what they mean."""


class Override(NamedTuple):
    """A value that was given on the command line.

    Attributes:
        option: The option as it was typed, without the value: ``"--trainer.callbacks+"``.
        key: The key: ``("trainer", "callbacks")``.
        text: The value as it was typed.
        appends: Whether to append to a list: ``--trainer.callbacks+=...``.
    """

    option: str
    key: tuple[str, ...]
    text: str
    appends: bool = False


@dataclass(frozen=True)
class CommandLine:
    """The arguments of a command that takes a configuration.

    Attributes:
        command: Name of the command.
        paths: The configuration files, as they were typed, in order.
        overrides: The overrides, in order.
        options: The values of the command's own options, by name without dashes; of a flag it is the empty string.
        positional: Arguments that belong to no option.
        others: Everything but the files and the framework, as typed.
        foreign: The run of the files, if they are of a framework's own command line.
    """

    command: str
    paths: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    foreign: FrameworkRun | None = None


class Option(NamedTuple):
    """An option of a command.

    Attributes:
        text: What it does, for ``--help``.
        metavar: Name of its value; None for a flag.
    """

    text: str
    metavar: str | None = None


def add_options(parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> None:
    """Add files and options to a parser, which is used for ``--help`` and for completion only."""
    parser.add_argument(CONFIG, metavar="FILE", action="append", help="a YAML file; later ones override earlier ones")
    for name, one in options.items():
        if one.metavar is None:
            parser.add_argument(f"--{name}", action="store_true", help=one.text)
        else:
            parser.add_argument(f"--{name}", metavar=one.metavar, help=one.text)


def read_arguments(
    command: str, given: Sequence[str], options: Mapping[str, Option], roots: Sequence[str] = ROOTS
) -> CommandLine:
    """Return what was given on a command line.

    Args:
        command: Name of the command.
        given: The arguments after it.
        options: The command's own options, by name without dashes.
        roots: Names whose options are overrides: ``--trainer.max_epochs``, ``--seed``.

    Raises:
        ConfigError: If an option is unknown, has no value, is given twice, or overrides a file that follows it.
    """
    paths: list[str] = []
    overrides: list[Override] = []
    own: dict[str, str] = {}
    positional: list[str] = []
    others: list[str] = []
    for option, value, typed in _pairs(given, options):
        name = option.removeprefix("--")
        if option not in (CONFIG, "--framework"):
            others += typed
        if not option:
            positional.append(value)
        elif option == CONFIG:
            if overrides:
                raise _wrong_order(overrides[0], value)
            paths.append(value)
        elif name.partition(".")[0].removesuffix("+") in roots:
            key = tuple(name.removesuffix("+").split("."))
            overrides.append(Override(option, key, value, name.endswith("+")))
        elif name in own:
            raise ConfigError(f"{option} is given twice.", hint="remove one of them.")
        else:
            own[name] = value
    return CommandLine(command, tuple(paths), tuple(overrides), own, tuple(positional), tuple(others))


def _pairs(given: Sequence[str], options: Mapping[str, Option]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each option, its value, and both as typed; what belongs to no option has the option ``""``."""
    left = list(given)
    while left:
        typed = [left.pop(0)]
        if not typed[0].startswith("--"):
            yield "", typed[0], typed
            continue
        option, equals, value = typed[0].partition("=")
        flag = options.get(option[2:], Option("", "")).metavar is None
        if flag and equals:
            raise ConfigError(f"{option} takes no value; got {shown(value)}.", hint=option)
        if not flag and not equals:
            if not left or left[0].startswith("--"):
                raise ConfigError(f"{option} needs a value.", hint=f"{option} VALUE")
            value = left.pop(0)
            typed.append(value)
        yield option, value, typed


def _wrong_order(override: Override, path: str) -> ConfigError:
    return ConfigError(
        f"{override.option} comes before {CONFIG} {path}, and the file would override it.",
        hint=f"{CONFIG} {path} {override.option} VALUE",
    )


def require_known(line: CommandLine, options: Mapping[str, Option], roots: Sequence[str] = ROOTS) -> None:
    """Refuse options that the command does not have, and arguments without an option.

    Raises:
        ConfigError: If there is one.
    """
    for name in line.options:
        if name not in options:
            raise ConfigError(f"unknown option --{name}.", hint=_option_hint(name, ("config", *options, *roots)))
    if line.positional:
        first = line.positional[0]
        is_file, is_short = first.endswith((".yaml", ".yml")), first.startswith("-")
        hint = f"{CONFIG} {first}" if is_file else "a value follows its option: --trainer.max_epochs 3"
        hint = f"options have two dashes: {CONFIG} run.yaml" if is_short else hint
        raise ConfigError(f"unexpected argument {shown(first)}.", hint=hint)


def _option_hint(name: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown option: it may be a key of a section, without that section."""
    from unitrain.config import TrainerConfig  # noqa: PLC0415 - an error may take the time to import it

    head = name.partition(".")[0].replace("-", "_")
    if head in _OF_SECTIONS and "spec" in known:
        return f"did you mean {_OF_SECTIONS[head]}{name[len(head) :]}?"
    hint = did_you_mean(f"--{head}", [f"--{one}" for one in known])
    keys = alike(head, [one.name for one in fields(TrainerConfig)])
    if keys and not hint.startswith("did you mean"):
        return f"did you mean {' or '.join(f'--trainer.{one}' for one in keys)}?"
    return hint
