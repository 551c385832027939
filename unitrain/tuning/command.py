"""``unitrain tune``: search hyper-parameters, join a study, show it, export it."""

from __future__ import annotations

import ast
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.tuning.samplers import PRUNERS, SAMPLERS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from unitrain.tuning.result import TuneResult

TIME_IS_UP, STOPPED = 124, 130
"""The exit statuses of a study that is to be continued: as of the command ``timeout``, and as after Ctrl-C."""

_DESCRIPTION = """\
Search hyper-parameters with Optuna. MAKE_SPEC is a function of a trial that returns a TrainSpec. The trials are the
same for any number of workers and on any backend; a killed worker's trial is resumed to the same bits.
"""

_EPILOG = """\
train.py:
  def make_spec(trial):
      lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
      return TrainSpec(model=Net(), loss=nn.CrossEntropyLoss(), optimizer=partial(AdamW, lr=lr), metrics=...)

  def loaders():               # or loaders(trial), for a batch size that is searched, too
      return train_loader, val_loader

40 trials of 5 epochs, two at a time; the same command continues a study that was stopped:
  unitrain tune train:make_spec --data train:loaders --trials 40 --monitor val/acc --direction maximize \\
    --framework ignite --storage journal:///study.log --study digits --workers 2 --pruner median \\
    --trainer.max_epochs 5

a second machine helps; a server has the study, and who began it has said how many trials, of what:
  unitrain tune train:make_spec --data train:loaders --join --framework lightning \\
    --storage redis://HOST/0 --study digits --trainer.max_epochs 5

look at it meanwhile, or afterwards:
  unitrain tune --show --storage journal:///study.log --study digits
  unitrain tune --export study.html --storage journal:///study.log --study digits

--trainer.NAME VALUE is an option of UnifiedTrainer; VALUE is read as Python or JSON, else as text.
Functions are MODULE:NAME, imported from the current directory, or FILE.py:NAME.
Two objectives: --monitor val/loss --direction minimize --monitor val/acc --direction maximize.

exit status:
  0    all trials are finished; or the study was shown or exported
  1    something is invalid, or a trial raised an error; the message says what
  124  --timeout stopped the study, and
  130  Ctrl-C or SIGTERM did: the same command continues it
"""

_TEXTS = {
    "--monitor": ("NAME", "the metric to optimize, as val/acc; again for a further objective"),
    "--direction": ("WAY", "minimize (default) or maximize; again for a further objective"),
}
_OPTIONS = {
    "--data": ("MODULE:NAME", "a function that returns (train, val), or train alone; it may take the trial"),
    "--framework": ("NAME", "lightning, ignite, reference, or another installed backend"),
    "--storage": ("URL", "journal:///study.log, sqlite:///study.db, redis://HOST/0, postgresql://USER@HOST/DB"),
    "--study": ("NAME", "the study's name in the storage"),
    "--sampler": ("NAME", f"{', '.join(SAMPLERS)}; or MODULE:NAME of a function seed -> sampler"),
    "--pruner": ("NAME", f"{', '.join(PRUNERS)}; or MODULE:NAME of a pruner; default: none"),
    "--value": ("EPOCH", "last or best: which epoch's value is the trial's; default: last"),
    "--executor": ("NAME", "processes of this machine (default), or ray: tasks of a Ray cluster"),
    "--dirpath": ("FOLDER", "where trials write checkpoints; default: runs/STUDY"),
}
_NUMBERS = {
    "--trials": (int, "how many trials the study is to have in all"),
    "--workers": (int, "how many processes work here; default: 1"),
    "--parallel": (int, "how many of the newest trials a trial does not know; default: --workers of the first call"),
    "--seed": (int, "of the samplers, the first weights and the fits; default: 0"),
    "--retries": (int, "how often a trial may lose its worker before it counts as failed; default: 3"),
    "--timeout": (float, "seconds after which to stop; running trials leave a checkpoint"),
}
_FLAGS = {
    "--join": "work on a study that exists, as who began it said",
    "--show": "print the study and what matters in it",
    "--overwrite": "replace the file of --export if it exists",
}
_NAMES = {"trials": "n_trials", "study": "study_name"}
"""Options whose argument of ``tune`` has another name."""
_OF_STUDY = ("trials", "monitor", "direction", "seed", "parallel", "value")
"""What ``--join`` takes from the study."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
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
        "--trainer.NAME", metavar="VALUE", help="an option of UnifiedTrainer, as --trainer.max_epochs 5"
    )
    parser.add_argument("--export", metavar="FILE", help="write the study to a .csv, .json or .html file", type=Path)


def run(arguments: argparse.Namespace) -> int:
    """Tune, show or export, and return the exit status.

    Raises:
        UnitrainError: If it cannot be done.
    """
    from unitrain.tuning.report.exports import export, require_exportable  # noqa: PLC0415 - after `--help`

    if arguments.overwrite and arguments.export is None:
        raise ConfigError("--overwrite has no effect without --export.", hint="--export study.html --overwrite")
    if arguments.export is not None:
        require_exportable(arguments.export, overwrite=arguments.overwrite)
    if arguments.make_spec is None:
        result, status = _looked_up(arguments), 0
    elif arguments.show:
        raise ConfigError("--show runs nothing, and MAKE_SPEC would have no effect.", hint="remove one.")
    else:
        result, status = _tuned(arguments)
    if arguments.export is not None:
        export(result, arguments.export)
        print(f"{arguments.export} is written.")  # noqa: T201 - a command
    return status


def _looked_up(arguments: argparse.Namespace) -> TuneResult:
    """Return a study that exists, and print it if it is to be shown."""
    from unitrain.tuning.existing import existing_study  # noqa: PLC0415 - after `--help`
    from unitrain.tuning.report.importances import importances, told  # noqa: PLC0415 - after `--help`

    if not arguments.show and arguments.export is None:
        raise ConfigError("MAKE_SPEC is missing.", hint="unitrain tune train:make_spec ..., or --show, or --export.")
    allowed = {"command", "storage", "study", "show", "export", "overwrite", "rest"}
    given = [name for name, value in vars(arguments).items() if name not in allowed and value]
    if given:
        raise ConfigError(f"without MAKE_SPEC nothing runs, and --{given[0]} would have no effect.", hint="remove it.")
    _require(arguments, "storage", "study")
    result = existing_study(arguments.storage, arguments.study)
    if arguments.show:
        print(result, "", *told(importances(result), result.plan.monitor[0]), sep="\n")  # noqa: T201 - a command
    return result


def _tuned(arguments: argparse.Namespace) -> tuple[TuneResult, int]:
    """Run trials, and say how it ended."""
    from unitrain.tuning.study import tune  # noqa: PLC0415 - after `--help`

    with _importable(arguments):
        given = _joined(arguments) if arguments.join else _begun(arguments)
        data = _data(arguments.data, int(given.get("seed", 0)))
        result = tune(_named(arguments.make_spec, "MAKE_SPEC"), **data, **given)
    print(result)  # noqa: T201 - a command
    if result.stopped_by != "n_trials":
        print("The study is not finished; the same command continues it.")  # noqa: T201 - a command
    return result, {"timeout": TIME_IS_UP, "signal": STOPPED}.get(result.stopped_by, 0)


def _require(arguments: argparse.Namespace, *names: str) -> None:
    missing = [name for name in names if getattr(arguments, name) in (None, [])]
    if missing:
        raise ConfigError(f"--{missing[0]} is missing.", hint="unitrain tune --help shows complete commands.")


def _begun(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``tune``."""
    _require(arguments, "data", "trials", "monitor", "framework")
    names = [option[2:] for option in (*_TEXTS, *_OPTIONS, *_NUMBERS) if option != "--data"]
    found = {_NAMES.get(name, name): getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name in ("sampler", "pruner"):
        if ":" in str(found.get(name, "")):
            found[name] = _named(found[name], f"--{name}")
    return {**found, "trainer": {name: _literal(text) for name, text in arguments.settings.items()}}


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
            f"--join takes --{given[0]} from the study.", hint="remove it; without --join, more --trials are added."
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


def _literal(text: str) -> Any:
    """Return what a text means in Python, or in JSON, or the text."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


@contextmanager
def _importable(arguments: argparse.Namespace) -> Iterator[None]:
    """Let the functions that are named be imported, here and in workers, which get ``sys.path``."""
    before = sys.path[:]
    texts = [arguments.make_spec, arguments.data, arguments.sampler, arguments.pruner]
    files = [Path(one.rpartition(":")[0]) for one in texts if one is not None and ".py:" in one]
    sys.path[:0] = dict.fromkeys([*(str(one.expanduser().resolve().parent) for one in files), str(Path.cwd())])
    try:
        yield
    finally:
        sys.path[:] = before


def _named(given: str, option: str) -> Any:
    """Return what ``MODULE:NAME`` or ``FILE.py:NAME`` names.

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

    function = _named(given, "--data")
    if not callable(function):
        raise ConfigError(f"--data {given!r} must be a function; got {function!r}.", hint="def loaders(): ...")
    return {"train": DataOfTrial(given, function)} if depends_on_trial(function) else once(given, function, seed)
