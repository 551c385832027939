"""``unitrain compare``: the same training on several backends, two programs, or two checkpoints, bit by bit."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration.command import found_files, loaded, require_packages
from unitrain.cli.configuration.command_line import Option, add_options, read_arguments
from unitrain.errors import ConfigError, UnitrainError, did_you_mean
from unitrain.utilities.import_path import importable

if TYPE_CHECKING:
    import argparse

    from unitrain.cli.configuration.command_line import CommandLine
    from unitrain.cli.configuration.configuration import Configuration
    from unitrain.testing.comparison.comparison import Comparison

EQUAL, DIFFERENT, COULD_NOT_RUN = 0, 1, 2
"""The exit statuses."""

OPTIONS = {
    "frameworks": Option("backends, separated by commas; default: all that are installed", "NAMES"),
    "seed": Option("sown before each program is built; default: that of the file, or 0", "N"),
    "steps": Option("number of optimizer steps to compare at most", "N"),
    "json": Option("write the result to a JSON file", "FILE"),
    "report": Option("write the result to one HTML file", "FILE"),
    "bisect": Option("write the tensors of the step that differs, the one before and the one after", "FOLDER"),
    "timeout": Option("stop a side that has not ended after so many seconds", "SECONDS"),
    "overwrite": Option("replace the files of --json, --report and --bisect if they exist"),
}
_ROOTS = ("framework", "trainer", "spec", "data")
_YAML = (".yaml", ".yml")
_MOST = 2

_DESCRIPTION = """\
Train the same program on several backends, or two programs, or read two checkpoints, and compare all bits: batches,
random states, forward, gradients, weights, optimizer states, events, logged values and metrics. Stops at the first
difference and names it: step, tensor, index, both values, and their distance in ulp.
"""

_EPILOG = """\
the same YAML file, or the same function, on several backends:
  unitrain compare --config run.yaml --frameworks lightning,ignite,reference --report out.html --json out.json
  unitrain compare train:make --frameworks lightning,ignite --trainer.max_epochs 2

a hand-written loop against a spec:
  unitrain compare train:make_loop run.yaml

two checkpoints: weights, optimizer states, counters:
  unitrain compare a.ckpt b.ckpt

train.py:
  def make():                  # the generators are seeded before
      return TrainSpec(model=Net(), loss=..., optimizer=...), train_loader, val_loader

  def make_loop():             # yields after each optimizer step
      ...
      optimizer.step()
      yield {"model": model, "loss": loss, "batch": batch}    # or the model alone

--KEY VALUE overrides a key of the YAML file, such as --trainer.max_epochs 2 or --spec.optimizer.lr 0.1. Name functions
by MODULE:NAME, imported from the current directory, or FILE.py:NAME. A YAML file names classes and functions, which
are imported and called: compare only files that you trust. See docs/compare.md.

exit status:
  0    all sides have the same bits
  1    they differ
  2    an argument is invalid, or a side raised an error, was killed, or did not end in time
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command, for ``--help``; ``run`` reads them itself."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = (
        "unitrain compare (--config FILE ... | PROGRAM) [--frameworks NAMES] [--KEY VALUE ...]\n"
        "       unitrain compare PROGRAM PROGRAM [--frameworks NAMES] [--KEY VALUE ...]\n"
        "       unitrain compare CHECKPOINT CHECKPOINT"
    )
    parser.add_argument("programs", metavar="PROGRAM", nargs="*", help="MODULE:NAME of a function, or a YAML file")
    add_options(parser, OPTIONS)
    parser.add_argument("--trainer.NAME", metavar="VALUE", help="an option of UnifiedTrainer: --trainer.max_epochs 2")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and return the exit status."""
    try:
        result, paths = _compared(read_arguments("compare", arguments.rest, OPTIONS, _ROOTS))
    except UnitrainError as error:
        print(f"unitrain compare: {error}", file=sys.stderr)  # noqa: T201 - a command
        return COULD_NOT_RUN
    except Exception:  # noqa: BLE001 - a fault of unitrain itself; status 1 would say that the sides differ
        traceback.print_exc()
        return COULD_NOT_RUN
    print(result, *(f"{path} is written." for path in paths), sep="\n")  # noqa: T201 - a command
    return {"equal": EQUAL, "different": DIFFERENT}.get(result.status, COULD_NOT_RUN)


@dataclass(frozen=True)
class ConfiguredProgram:
    """The program that YAML files describe; it can be pickled.

    Attributes:
        configuration: The configuration.
        title: The name of the first file.
    """

    configuration: Configuration
    title: str

    def __call__(self) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Sow the seed, and return the spec, the data and the options of the trainer."""
        built = self.configuration.build()
        return built.spec, built.train, built.val, built.trainer_options


def _compared(line: CommandLine) -> tuple[Comparison, list[Path]]:
    """Compare what the command line says, and return the result and the files that were written."""
    _require_known(line)
    files = {name: _file(line, name) for name in ("json", "report") if name in line.options}
    if len({*files.values()}) < len(files):
        raise ConfigError("--json and --report name the same file.", hint="--json out.json --report out.html")
    overwrite = "overwrite" in line.options
    if overwrite and not files and "bisect" not in line.options:
        raise ConfigError("--overwrite has no effect without --json, --report or --bisect.", hint="remove it.")
    with importable(line.positional):
        result = _result(line, overwrite=overwrite)
    for name, path in files.items():
        save = result.save_json if name == "json" else result.report
        save(path, overwrite=overwrite)
    return result, list(files.values())


def _require_known(line: CommandLine) -> None:
    unknown = next((name for name in line.options if name not in OPTIONS), None)
    if unknown is not None:
        raise ConfigError(
            f"unknown option --{unknown}.", hint=did_you_mean(f"--{unknown}", [f"--{one}" for one in OPTIONS])
        )
    given = len(line.positional) + bool(line.paths)
    if not given:
        raise ConfigError("nothing to compare.", hint="unitrain compare --config run.yaml, or MODULE:NAME, or A B.")
    if given > _MOST:
        raise ConfigError(f"compare takes one or two programs; got {given}.", hint="remove one.")


def _file(line: CommandLine, name: str) -> Path:
    """Return the path of a file to write, before anything runs."""
    from unitrain.testing.comparison.comparison import require_new  # noqa: PLC0415 - after `--help`

    return require_new(line.options[name], f"--{name}", overwrite="overwrite" in line.options)


def _result(line: CommandLine, *, overwrite: bool) -> Comparison:
    from unitrain.testing.comparison.compare import compare  # noqa: PLC0415 - after `--help`

    seed = _whole(line, "seed")
    programs = [_program(one, line, seed) for one in line.positional]
    if line.paths:
        programs.append(_configured(line.paths, line, seed))
    yaml = [one for one in programs if isinstance(one, ConfiguredProgram)]
    _require_keys_act(line, programs, yaml)
    frameworks = (
        [one.strip() for one in line.options["frameworks"].split(",") if one.strip()]
        if "frameworks" in line.options
        else None
    )
    if frameworks is None and len(programs) > 1 and yaml and yaml[0].configuration.framework is not None:
        frameworks = [yaml[0].configuration.framework]
    return compare(
        programs[0],
        *programs[1:],
        frameworks=frameworks,
        trainer=None if yaml else _trainer(line) or None,
        seed=seed or 0,
        steps=_whole(line, "steps"),
        bisect=line.options.get("bisect"),
        overwrite=overwrite,
        timeout=_seconds(line),
    )


def _require_keys_act(line: CommandLine, programs: list[Any], yaml: list[ConfiguredProgram]) -> None:
    """Refuse overrides and options without an effect.

    Raises:
        ConfigError: If there is one.
    """
    from unitrain.testing.comparison.side import is_loop  # noqa: PLC0415 - after `--help`

    for override in line.overrides:
        if override.key[0] == "framework":
            raise ConfigError(f"{override.option}: compare takes several.", hint="--frameworks lightning,ignite")
        if not yaml and (override.key[0] != "trainer" or len(override.key) == 1 or not callable(programs[0])):
            raise ConfigError(f"{override.option} has no effect without a YAML file.", hint="remove it.")
    own = next((one for one in programs if callable(one) and one not in yaml and not is_loop(one)), None)
    if yaml and own is not None and line.overrides:
        raise ConfigError(
            f"{line.overrides[0].option} would act on the YAML file, and not on the other program.",
            hint="set it in the function and in the file.",
        )
    if not callable(programs[0]) and "seed" in line.options:
        raise ConfigError("--seed has no effect on two checkpoints.", hint="remove it.")


def _program(given: str, line: CommandLine, seed: int | None) -> Any:
    """Return what a positional argument names: a YAML file, a function, or the path of a checkpoint.

    Raises:
        ConfigError: If it is none of them.
    """
    from unitrain.tuning.command import named  # noqa: PLC0415 - after `--help`

    if given.endswith(_YAML):
        return _configured((given,), line, seed)
    if given.endswith(".py"):
        raise ConfigError(f"{given} is a script; a program is a function in one.", hint=f"{given}:make")
    if ":" not in given or Path(given).exists():
        if not Path(given).exists():
            raise ConfigError(
                f"there is no file {given}.", hint="MODULE:NAME of a function, a YAML file, or a checkpoint."
            )
        return Path(given)
    try:
        found = named(given, "PROGRAM")
    except UnitrainError:
        raise
    except (Exception, SystemExit) as error:  # a module may do anything
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{given!r} could not be imported: {told}", hint="correct the module.") from error
    if not callable(found):
        raise ConfigError(f"{given!r} must be a function; got {found!r}.", hint="def make(): return spec, train_loader")
    return found


def _configured(paths: tuple[str, ...], line: CommandLine, seed: int | None) -> ConfiguredProgram:
    """Return the program of YAML files, with a seed: the one that is given, that of the file, or 0."""
    from unitrain.cli.configuration.configuration import require_fit  # noqa: PLC0415 - after `--help`

    require_packages("a YAML file")
    if found_files("fit", replace(line, paths=paths)) is not None:
        raise ConfigError(
            f"{paths[0]} is a file of a framework's own command line, which compare cannot run.",
            hint="compare a function of a module: def make(): return MyLightningModule(), train_loader",
        )
    configuration = loaded(replace(line, paths=paths))
    require_fit(configuration)
    if seed is not None or configuration.seed is None:
        configuration = configuration.with_values(seed=seed or 0)
    return ConfiguredProgram(configuration, Path(paths[0]).name)


def _trainer(line: CommandLine) -> dict[str, Any]:
    """Return the options of the trainer that are given for programs in Python."""
    from unitrain.tuning.command import literal  # noqa: PLC0415 - after `--help`

    return {".".join(one.key[1:]): literal(one.text) for one in line.overrides}


def _whole(line: CommandLine, name: str) -> int | None:
    given = line.options.get(name)
    if given is None:
        return None
    try:
        return int(given)
    except ValueError as error:
        raise ConfigError(f"--{name} must be a whole number; got {given!r}.", hint=f"--{name} 100") from error


def _seconds(line: CommandLine) -> float | None:
    given = line.options.get("timeout")
    try:
        return None if given is None else float(given)
    except ValueError as error:
        raise ConfigError(f"--timeout must be a number of seconds; got {given!r}.", hint="--timeout 600") from error
