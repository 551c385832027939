"""``unitrain validate``, ``test`` and ``predict``: evaluate what configuration files describe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration import command
from unitrain.cli.configuration.command_line import Option
from unitrain.distributed.world import world_here
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.files import failing_as, refuse_existing, require_folder, user_file, written
from unitrain.utilities.import_path import importable

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from unitrain.cli.configuration.command_line import CommandLine
    from unitrain.cli.configuration.configuration import Built, Configuration

_DATA = {"validate": "val", "test": "test", "predict": "predict"}
_DESCRIPTIONS = {
    "validate": "Measure the validation metrics of a checkpoint, and print them.",
    "test": "Measure the test metrics of a checkpoint, and print them.",
    "predict": "Write the predictions of a checkpoint into a file: one item per batch, for torch.load.",
}
_EXAMPLE = """

The configuration of a run finds its checkpoints:
  unitrain {name} --config runs/7/config.yaml --ckpt_path best{more}"""
_OUTPUT = {"output": Option("a new file for the predictions: predictions.pt", "FILE")}


def _options(name: str) -> dict[str, Option]:
    return command.COMMON | (_OUTPUT if name == "predict" else {})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of one of these commands, for ``--help``."""
    name = parser.prog.split()[-1]
    more = " --output predictions.pt" if name == "predict" else ""
    parser.description = _DESCRIPTIONS[name] + _EXAMPLE.format(name=name, more=more)
    command.add_arguments(parser, _options(name))


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, and return the exit status.

    Raises:
        UnitrainError: If anything is invalid; then nothing is written.
    """
    name = arguments.command
    with importable():
        line = command.given_line(name, arguments, _options(name))
        output = _output(line)
        if line.foreign is not None:
            _report(name, line.foreign.run(), output)
            return 0
        configuration = command.loaded(line)
        if command.PRINT in line.options:
            print(configuration.text, end="")  # noqa: T201 - a command
            return 0
        _evaluated(name, line, configuration, output)
    return 0


def _report(name: str, found: Any, output: Path | None) -> None:
    """Write the predictions of a framework's own files; it has printed the metrics."""
    if name != "predict" or not found:
        return
    if output is not None:
        _write(found, output)
    else:
        print("note: the predictions are not kept; --output predictions.pt writes them.", file=sys.stderr)  # noqa: T201


def _evaluated(name: str, line: CommandLine, configuration: Configuration, output: Path | None) -> None:
    from unitrain.backends.registry import find_adapter  # noqa: PLC0415 - after `--help`
    from unitrain.cli.configuration.run_folders import with_keeper  # noqa: PLC0415

    find_adapter(command.require_framework(configuration))
    command.require_one_seed(configuration)
    configuration = configuration.seeded()
    built = with_keeper(configuration.build())
    data = _data(name, configuration, built)
    checkpoint = command.checkpoint(line, built)
    if checkpoint is None and command.is_first():
        print("note: without --ckpt_path, the model has the weights that it is made with.", file=sys.stderr)  # noqa: T201
    if name == "predict":
        _require_writer(output, built)
    trainer = command.trainer(configuration, {"loggers": [], **built.trainer_options})
    if name != "predict":
        getattr(trainer, name)(built.spec, data, ckpt_path=checkpoint, verbose=True)
        return
    kept = {} if output is not None else {"return_predictions": False}
    predictions = trainer.predict(built.spec, data, ckpt_path=checkpoint, **kept)  # type: ignore[arg-type]
    if output is not None:
        _write(predictions, output)


def _data(name: str, configuration: Configuration, built: Built) -> Any:
    """Return the data of a command.

    Raises:
        ConfigError: If there is none.
    """
    from unitrain.data.sources import DataSpec  # noqa: PLC0415 - after `--help`

    stage = _DATA[name]
    places = configuration.places
    if configuration.tree["data"] is None:
        raise places.refusal(
            ("data",), "is missing.", "data: {class_path: package.Digits, init_args: {batch_size: 32}}"
        )
    val = built.train if built.val is None and built.train is built.test else built.val
    data = val if stage == "val" else getattr(built, stage)
    if data is None or (isinstance(data, DataSpec) and getattr(data, stage) is None):
        raise places.refusal(
            ("data",), f"it makes no data for `{name}`.", f"let it return unitrain.DataSpec({stage}=loader)."
        )
    return data


def _output(line: CommandLine) -> Path | None:
    """Return the file for the predictions, which must be a new one.

    Raises:
        ConfigError: If it exists, or cannot be written.
    """
    if "output" not in line.options:
        return None
    path = user_file(line.options["output"], "--output", ConfigError)
    if path.suffix != ".pt":
        raise ConfigError(
            f"--output {str(path)!r} must end in .pt: it is written by torch.save.",
            hint="--output predictions.pt; a unitrain.PredictionWriter also writes .csv and .npy.",
        )
    refuse_existing(path, ConfigError, overwrite=False, hint="choose another name, or remove the file.")
    require_folder(ConfigError, path.parent)
    world = world_here()
    if world is not None and world.size > 1:
        raise ConfigError(
            "--output with several processes would have the predictions of one of them.",
            hint="callbacks: [{class_path: unitrain.PredictionWriter, init_args: {folder: predictions}}]",
        )
    return path


def _require_writer(output: Path | None, built: Built) -> None:
    """Refuse to compute predictions that nobody gets."""
    from unitrain.callbacks import PredictionWriter  # noqa: PLC0415 - after `--help`
    from unitrain.cli.configuration.run_folders import callbacks_of  # noqa: PLC0415

    if output is None and not any(isinstance(one, PredictionWriter) for one in callbacks_of(built)):
        raise ConfigError(
            "nothing would keep the predictions.",
            hint="--output predictions.pt, or a unitrain.PredictionWriter in trainer.callbacks.",
        )


def _write(predictions: Any, path: Path) -> None:
    import torch  # noqa: PLC0415 - after `--help`

    with failing_as(UnitrainError, path), written(path, new=True) as file:
        torch.save(predictions, file)
    print(f"{path} is written.")  # noqa: T201 - a command
