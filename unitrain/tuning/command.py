"""``unitrain tune``: search hyper-parameters, join a study, show it, export it."""

from __future__ import annotations

import ast
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.tuning.samplers import PRUNERS, SAMPLERS
from unitrain.utilities.import_path import importable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from unitrain.tuning.result import TuneResult

TIME_IS_UP, STOPPED = 124, 130
"""Exit statuses of an unfinished study, as those of the command ``timeout`` and of Ctrl-C."""

_DESCRIPTION = """\
Search hyper-parameters with Optuna. MAKE_SPEC is a function that takes a trial and returns a TrainSpec. The trials are
the same for any number of workers, on any backend. The trial of a killed worker is resumed with bit-identical results.
"""

_EPILOG = """\
train.py:
  def make_spec(trial):
      lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
      return TrainSpec(model=Net(), loss=nn.CrossEntropyLoss(), optimizer=partial(AdamW, lr=lr), metrics=...)

  def loaders():               # or loaders(trial), to search the batch size too
      return train_loader, val_loader

40 trials of 5 epochs, two at a time; the same command continues a stopped study:
  unitrain tune train:make_spec --data train:loaders --trials 40 --monitor val/acc --direction maximize \\
    --framework ignite --storage journal:///study.log --study digits --workers 2 --pruner median \\
    --trainer.max_epochs 5

join the study from a second machine; the server stores its number of trials, metric and so on:
  unitrain tune train:make_spec --data train:loaders --join --framework lightning \\
    --storage redis://HOST/0 --study digits --trainer.max_epochs 5

show or export the study at any time:
  unitrain tune --show --storage journal:///study.log --study digits
  unitrain tune --export study.html --storage journal:///study.log --study digits

--trainer.NAME VALUE is an option of UnifiedTrainer; VALUE is parsed as Python or JSON, else taken as a string.
Name functions by MODULE:NAME, imported from the current directory, or FILE.py:NAME.
Two objectives: --monitor val/loss --direction minimize --monitor val/acc --direction maximize.

exit status:
  0    all trials are finished, or the study was shown or exported
  1    an argument is invalid, or a trial raised an error
  124  --timeout stopped the study; the same command continues it
  130  Ctrl-C or SIGTERM stopped the study; the same command continues it
"""

_TEXTS = {
    "--monitor": ("NAME", "the metric to optimize, such as val/acc; repeat for several objectives"),
    "--direction": ("WAY", "minimize (default) or maximize; repeat for several objectives"),
    "--catch": ("ERROR", "an error that fails only its trial, such as torch:OutOfMemoryError; repeat for several"),
    "--warm-start": ("DICT", "parameters of one of the first trials: '{\"lr\": 0.1}'; repeat for several"),
}
_OPTIONS = {
    "--data": ("MODULE:NAME", "a function that returns (train, val), or train alone; it may take the trial"),
    "--framework": ("NAME", "lightning, ignite, reference, or another installed backend"),
    "--storage": ("URL", "journal:///study.log, sqlite:///study.db, redis://HOST/0, postgresql://USER@HOST/DB"),
    "--study": ("NAME", "the study's name in the storage"),
    "--sampler": ("NAME", f"{', '.join(SAMPLERS)}; or MODULE:NAME of a function seed -> sampler"),
    "--pruner": ("NAME", f"{', '.join(PRUNERS)}; or MODULE:NAME of a pruner; default: none"),
    "--value": ("EPOCH", "the epoch whose value is the trial's: last or best; default: last"),
    "--executor": ("NAME", "processes on this machine (default), or ray, for tasks of a Ray cluster"),
    "--dirpath": ("FOLDER", "folder of the trials' checkpoints; default: runs/STUDY"),
}
_NUMBERS = {
    "--trials": (int, "total number of trials"),
    "--workers": (int, "number of worker processes on this machine; default: 1"),
    "--parallel": (int, "a trial sees those numbered at least N below its own; default: --workers of the first call"),
    "--seed": (int, "seed of the samplers, initial weights and fits; default: 0"),
    "--retries": (int, "number of times a trial may lose its worker before it counts as failed; default: 3"),
    "--timeout": (float, "seconds after which to stop; running trials write a checkpoint"),
}
_FLAGS = {
    "--join": "work on an existing study, with its stored arguments",
    "--show": "print the study and the importance of its parameters",
    "--overwrite": "replace the file of --export if it exists",
}
_NAMES = {"trials": "n_trials", "study": "study_name"}
"""Options with another name than the argument of ``tune``."""
_OF_STUDY = ("trials", "monitor", "direction", "seed", "parallel", "value", "warm_start")
"""Options that ``--join`` takes from the study."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.usage = (
        "unitrain tune MAKE_SPEC --data LOADERS --trials N --monitor METRIC --framework NAME [...]\n"
        "       unitrain tune MAKE_SPEC --data LOADERS --join --framework NAME --storage URL --study NAME [...]\n"
        "       unitrain tune (--show | --export FILE) --storage URL --study NAME"
    )
    parser.add_argument("make_spec", metavar="MAKE_SPEC", nargs="?", help="MODULE:NAME of a function of the trial")
    for option, (metavar, text) in _TEXTS.items():
        parser.add_argument(option, metavar=metavar, help=text, action="append")
    for option, (metavar, text) in _OPTIONS.items():
        parser.add_argument(option, metavar=metavar, help=text)
    for option, (kind, text) in _NUMBERS.items():
        parser.add_argument(option, metavar="N", help=text, type=kind)
    for option, text in _FLAGS.items():
        parser.add_argument(option, help=text, action="store_true")
    parser.add_argument(
        "--trainer.NAME", metavar="VALUE", help="an option of UnifiedTrainer, such as --trainer.max_epochs 5"
    )
    parser.add_argument("--export", metavar="FILE", help="write the study to a .csv, .json or .html file", type=Path)


def run(arguments: argparse.Namespace) -> int:
    """Tune, show or export, and return the exit status.

    Raises:
        UnitrainError: If an argument is invalid, or a trial fails.
    """
    from unitrain.tuning.report.exports import require_exportable  # noqa: PLC0415 - after `--help`

    if arguments.overwrite and arguments.export is None:
        raise ConfigError("--overwrite has no effect without --export.", hint="--export study.html --overwrite")
    if arguments.export is not None:
        require_exportable(arguments.export, overwrite=arguments.overwrite)
    looks_up = arguments.make_spec is None
    if arguments.show and not looks_up:
        raise ConfigError("--show runs no trials, so MAKE_SPEC has no effect.", hint="remove one of them.")
    result = _looked_up(arguments) if looks_up else _tuned(arguments)
    _export_and_print(arguments, result)
    return 0 if looks_up else {"timeout": TIME_IS_UP, "signal": STOPPED}.get(result.stopped_by, 0)


def _export_and_print(arguments: argparse.Namespace, result: TuneResult) -> None:
    """Export a study, then print it: printing fails if nobody reads. A failed export does not prevent printing."""
    from unitrain.tuning.report.exports import export  # noqa: PLC0415 - after `--help`

    lines = list(_lines(arguments, result))
    try:
        if arguments.export is not None:
            export(result, arguments.export)
            lines.append(f"{arguments.export} is written.")
    except Exception:
        with suppress(BrokenPipeError):
            print(*lines, sep="\n")  # noqa: T201 - a command
        raise
    print(*lines, sep="\n")  # noqa: T201 - a command


def _lines(arguments: argparse.Namespace, result: TuneResult) -> Iterator[str]:
    """Yield what to print of a study."""
    from unitrain.tuning.report.importances import importances, told  # noqa: PLC0415 - after `--help`

    if arguments.show:
        yield from (str(result), "", *told(importances(result), result.plan.monitor[0]))
    elif arguments.make_spec is not None:
        yield str(result)
        if result.stopped_by != "n_trials":
            yield "The study is not finished; the same command continues it."


def _looked_up(arguments: argparse.Namespace) -> TuneResult:
    """Return a study that exists."""
    from unitrain.tuning.existing import existing_study  # noqa: PLC0415 - after `--help`

    if not arguments.show and arguments.export is None:
        raise ConfigError("MAKE_SPEC is missing.", hint="unitrain tune train:make_spec ..., or --show, or --export.")
    allowed = {"command", "storage", "study", "show", "export", "overwrite", "rest"}
    given = [name for name, value in vars(arguments).items() if name not in allowed and value]
    if given:
        raise ConfigError(
            f"without MAKE_SPEC nothing runs, and --{_typed(given[0])} would have no effect.", hint="remove it."
        )
    _require(arguments, "storage", "study")
    return existing_study(arguments.storage, arguments.study)


def _tuned(arguments: argparse.Namespace) -> TuneResult:
    """Run trials."""
    from unitrain.tuning.study import tune  # noqa: PLC0415 - after `--help`

    functions = [arguments.make_spec, arguments.data, arguments.sampler, arguments.pruner, *(arguments.catch or ())]
    with importable(functions):
        given = _joined(arguments) if arguments.join else _begun(arguments)
        data = _data(arguments.data, int(given.get("seed", 0)))
        return tune(named(arguments.make_spec, "MAKE_SPEC"), **data, **given)


def _require(arguments: argparse.Namespace, *names: str) -> None:
    missing = [name for name in names if getattr(arguments, name) in (None, [])]
    if missing:
        raise ConfigError(f"--{missing[0]} is missing.", hint="unitrain tune --help shows complete commands.")


def _begun(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``tune``."""
    _require(arguments, "data", "trials", "monitor", "framework")
    names = [option[2:].replace("-", "_") for option in (*_TEXTS, *_OPTIONS, *_NUMBERS) if option != "--data"]
    found = {_NAMES.get(name, name): getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in ("sampler", "pruner"):
        if ":" in str(found.get(name, "")):
            found[name] = named(found[name], f"--{name}")
    found["catch"] = tuple(map(_error, found.get("catch", ())))
    found["warm_start"] = list(map(literal, found.get("warm_start", ())))
    return {**found, "trainer": {name: literal(text) for name, text in arguments.settings.items()}}


def _joined(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``tune`` for a study that somebody else has begun.

    Raises:
        ConfigError: If there is none, or something is given that the study says.
    """
    from unitrain.tuning.existing import existing_study  # noqa: PLC0415 - after `--help`

    _require(arguments, "storage", "study", "data", "framework")
    given = [name for name in _OF_STUDY if getattr(arguments, name) is not None]
    if given:
        raise ConfigError(
            f"--join takes --{_typed(given[0])} from the study.",
            hint="remove it; without --join, more --trials are added.",
        )
    result = existing_study(arguments.storage, arguments.study)
    plan = result.plan
    arguments.monitor, arguments.direction = list(plan.monitor), list(plan.directions)
    arguments.trials, arguments.seed = max(1, len(result.trials)), plan.seed
    arguments.parallel, arguments.value = plan.parallel, plan.value
    for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if getattr(arguments, name) is None and getattr(plan, name) in known:
            setattr(arguments, name, getattr(plan, name))
    return _begun(arguments)


def _error(name: str) -> Any:
    """Return the class of an error; one without a module is Python's own."""
    return named(name if ":" in name else f"builtins:{name}", "--catch")


def _typed(name: str) -> str:
    return name.replace("_", "-")


def literal(text: str) -> Any:
    """Return what a text means in Python, or in JSON, or the text."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def named(given: str, option: str) -> Any:
    """Return what ``MODULE:NAME`` or ``FILE.py:NAME`` names.

    Args:
        given: The given text.
        option: Name of the option, for messages.

    Raises:
        ConfigError: If there is no such thing.
    """
    from unitrain.checkpoint.convert.command import named_in  # noqa: PLC0415 - after `--help`

    place, _, name = given.rpartition(":")
    if not place.endswith(".py"):
        return named_in(given, option)
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f"{option} {given!r}: there is no file {path}.", hint="train.py:make_spec")
    found = named_in(f"{path.stem}:{name}", option)
    where = getattr(sys.modules[path.stem], "__file__", None)
    if where is None or Path(where).resolve() != path:
        raise ConfigError(
            f"{option} {given!r}: another module is called {path.stem!r}: {where}.", hint="rename the file."
        )
    return found


def _data(given: str, seed: int) -> dict[str, Any]:
    """Return the data that a function makes: once, or for each trial; always with the same random numbers."""
    from unitrain.tuning.data_of_trial import DataOfTrial, once  # noqa: PLC0415 - after `--help`
    from unitrain.tuning.plan import depends_on_trial  # noqa: PLC0415

    function = named(given, "--data")
    if not callable(function):
        raise ConfigError(f"--data {given!r} must be a function; got {function!r}.", hint="def loaders(): ...")
    return {"train": DataOfTrial(given, function)} if depends_on_trial(function) else once(given, function, seed)
