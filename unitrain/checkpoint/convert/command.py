"""``unitrain convert``: converts a checkpoint to another program's format, or describes a file."""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from unitrain.checkpoint.convert.codecs import by_form, take, targets
from unitrain.checkpoint.convert.conversion import convert_checkpoint
from unitrain.checkpoint.convert.own_forms import PORTABLE
from unitrain.compat.blocked import check_blocked
from unitrain.errors import ConfigError, did_you_mean
from unitrain.spec import TrainSpec
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    import argparse

    from unitrain.checkpoint.convert.foreign_checkpoint import ForeignCheckpoint

_DESCRIPTION = """\
Convert the checkpoint SRC to DST for another program, and list what the new file cannot contain.

SRC is a checkpoint of unitrain, Lightning (any version) or Ignite, a bare state_dict or a .safetensors file; the
format is detected. Reading it runs no code from the file, and it is not modified.
"""

_EXAMPLES = """\
show what a file contains
  unitrain convert epoch=3.ckpt --inspect

resume a Lightning or Ignite run in unitrain, on any backend (UnifiedTrainer.fit(ckpt_path="run.ckpt")):
  unitrain convert epoch=3.ckpt run.ckpt --to portable --model train:make_spec

from Lightning to plain Ignite, and from Ignite to plain Lightning:
  unitrain convert epoch=3.ckpt ignite.pt --to ignite --model train:make_spec
  unitrain convert ignite.pt lightning.ckpt --to lightning --model train:MyLightningModule

update a file of an older Lightning:
  unitrain convert old.ckpt new.ckpt --to lightning

only the weights; `net` is the LightningModule's attribute that holds the model:
  unitrain convert epoch=3.ckpt weights.safetensors --to safetensors --part net

--model names the target model. Only then is the file checked: no missing or unexpected weights, and each optimizer
state belongs to its parameter. Pass a function that returns the TrainSpec (or the module); it is imported from the
current directory, as in Python.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    parser.add_argument("src", metavar="SRC", type=user_path, help="the checkpoint to read")
    parser.add_argument("dst", metavar="DST", type=user_path, nargs="?", help="the file to write, atomically")
    parser.add_argument("--to", choices=targets(), help="the program that will read the new file")
    parser.add_argument(
        "--model", metavar="MODULE:NAME", help="the target TrainSpec or module, or a function that returns it"
    )
    parser.add_argument("--part", metavar="WORD", help="the prefix of the model's names, if several match")
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")
    parser.add_argument("--inspect", action="store_true", help="describe SRC and write nothing")


def run(arguments: argparse.Namespace) -> int:
    """Convert or describe a file, and return the exit status.

    Raises:
        UnitrainError: If an argument is invalid, or the file cannot be converted.
    """
    if arguments.inspect:
        _refuse_beside_inspect(arguments)
        print("\n".join(_told(take(arguments.src))))  # noqa: T201 - a command
        return 0
    if arguments.dst is None or arguments.to is None:
        missing = "DST" if arguments.dst is None else "--to"
        raise ConfigError(
            f"{missing} is missing.", hint="unitrain convert SRC DST --to portable; or unitrain convert SRC --inspect"
        )
    template = None if arguments.model is None else template_of(arguments.model)
    left = convert_checkpoint(
        arguments.src,
        arguments.dst,
        arguments.to,
        template=template,
        part=arguments.part,
        overwrite=arguments.overwrite,
    )
    print(f"{arguments.dst} is written, for {arguments.to}.")  # noqa: T201 - a command
    if left:
        print("It does not contain:", *(f"- {line}" for line in left), sep="\n")  # noqa: T201 - a command
    return 0


def _refuse_beside_inspect(arguments: argparse.Namespace) -> None:
    given = [
        name for name in ("dst", "to", "model", "part", "overwrite") if getattr(arguments, name) not in (None, False)
    ]
    if given:
        raise ConfigError(f"--inspect writes nothing, and {', '.join(given)} would have no effect.", hint="remove it.")


def template_of(given: str, option: str = "--model") -> TrainSpec | nn.Module:
    """Return what ``module:name`` means: a TrainSpec or a module, or what a call of it without arguments returns.

    Args:
        given: The given text.
        option: Name of the option, for messages.

    Raises:
        ConfigError: If there is no such thing, or it is neither.
    """
    found = named_in(given, option)
    made = found if isinstance(found, (TrainSpec, nn.Module)) else called(given, found, option)
    if not isinstance(made, (TrainSpec, nn.Module)):
        raise ConfigError(
            f"{option} {given!r} returns {made!r}, which is neither a TrainSpec nor a module.",
            hint=f"{option} train:make_spec",
        )
    return made


def named_in(given: str, option: str) -> Any:
    """Return what ``module:name`` names; the module is looked for in the current folder too.

    Args:
        given: The given text.
        option: Name of the option, for messages.

    Raises:
        ConfigError: If there is no such thing.
    """
    module, _, name = given.partition(":")
    if not module or not name:
        raise ConfigError(f"{option} {given!r} must be MODULE:NAME.", hint=f"{option} train:make_spec")
    check_blocked()  # the module may import it
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; a console script does not
    try:
        found: Any = import_module(module)
        for word in name.split("."):
            found = getattr(found, word)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{option} {given!r}: {error}.", hint="run the command in the directory of the script."
        ) from error
    except AttributeError as error:
        names = [one for one in dir(sys.modules[module]) if not one.startswith("_")] if module in sys.modules else []
        raise ConfigError(f"{option} {given!r}: {error}.", hint=did_you_mean(name, names)) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found


def called(given: str, found: Any, option: str) -> Any:
    """Return what ``found`` returns.

    Raises:
        ConfigError: If it cannot be called without arguments.
    """
    try:
        with suppress(ValueError):  # some builtins have no signature
            inspect.signature(found).bind()
    except TypeError as error:
        raise ConfigError(
            f"{option} {given!r} cannot be called without arguments: {error}.",
            hint="use a function without arguments.",
        ) from error
    return found()


def _told(taken: ForeignCheckpoint) -> list[str]:
    """Return lines on what a file is."""
    lines = [f"{taken.path}: {by_form()[taken.form].description}"]
    if taken.form == PORTABLE.name:
        own = taken.content["unitrain"]
        lines.append(f"  written by unitrain {own['versions']['unitrain']} on torch {own['versions']['torch']}")
        lines.append(f"  epochs done: {own['progress']['epochs_done']}, midway: {own['progress']['midway']}")
        lines.append(f"  optimizers: {', '.join(own['names']['optimizers'])}")
    if taken.written_by is not None:
        lines.append(f"  written by {' '.join(taken.written_by)}")
    if taken.stand is not None:
        stand = taken.stand
        where = f", and {stand.in_epoch} batches of the next" if stand.midway else ""
        lines.append(f"  epochs done: {stand.epochs_done}{where}; batches: {stand.batches}; steps: {stand.steps}")
    weights = taken.weights or taken.content.get("state_dict", {})
    lines += _weights_told(weights)
    if taken.optimizers:
        lines.append(
            f"  optimizers: {len(taken.optimizers)} ({', '.join(taken.optimizers)}); schedules: {len(taken.schedules)}"
        )
    lines += [f"  also: {one}" for one in taken.private]
    return [*lines, *(f"  note: {one}" for one in taken.lost)]


def _weights_told(weights: dict[str, Any]) -> list[str]:
    heads = list(dict.fromkeys(name.partition(".")[0] for name in weights))
    return [f"  weights: {len(weights)} tensors, with names starting with {', '.join(map(repr, heads[:8]))}"]
