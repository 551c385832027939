"""Runs configuration files of LightningCLI: with the real LightningCLI, whose Trainer is redirected."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.backends.features import refuse
from unitrain.backends.protocol import Feature
from unitrain.backends.registry import find_adapter
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.warned import warnings_noted
from unitrain_bridges.lightning.cli_checks import SECTIONS, check, check_sections, with_checkpoint
from unitrain_bridges.lightning.cli_classes import Classes
from unitrain_bridges.lightning.cli_errors import condensed, told
from unitrain_bridges.lightning.cli_record import RunRecorder
from unitrain_bridges.lightning.namespace import Parts
from unitrain_bridges.lightning.options import HOME
from unitrain_bridges.lightning.outcome import floats, outcome, recorder
from unitrain_bridges.lightning.redirect import redirected
from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.backends.foreign import FrameworkFiles

_STRICT = {"exit_on_error": False, "allow_abbrev": False}
"""Arguments of each parser: an error is raised, and an abbreviation is one."""

_KEYS = "--print_config shows all keys and values."

_LOADERS = {
    "fit": "train_dataloader",
    "validate": "val_dataloader",
    "test": "test_dataloader",
    "predict": "predict_dataloader",
}
"""The method that makes the data of a stage, of the module or the datamodule."""


def is_cli_file(contents: Mapping[str, Any]) -> bool:
    """Return whether a file with these contents is one of LightningCLI."""
    sections = [one for one in SECTIONS if isinstance(contents.get(one), dict)]
    return bool(sections) or "model" in contents or "seed_everything" in contents


def run_cli_files(files: FrameworkFiles, framework: str) -> Any:
    """Run the files as LightningCLI does, with its Trainer on ``framework``.

    Returns:
        The FitResult of a fit, the metrics of an evaluation, or predictions; None if only the configuration is printed.

    Raises:
        ConfigError: If a file or an argument is invalid; nothing has run.
        UnsupportedFeatureError: If they need what the backend does not support; nothing has run.
    """
    adapter = find_adapter(framework)
    if Feature.NATIVE_CODE not in adapter.features:
        raise refuse(adapter, Feature.NATIVE_CODE, "a configuration file of LightningCLI")
    check_sections(files)
    files = with_checkpoint(files)
    with redirected(adapter.name):
        classes = Classes.of(files)
        parts = Parts(classes.root)
        check(files, parts)
        rows, record = recorder(parts), parts.made(RunRecorder)(adapter.name)
        try:
            with warnings_noted() as warned:
                record.warned = warned
                cli = _run(files, classes, parts, [rows, record])
            if cli is None or files.stage != "fit":
                return None if cli is None else _evaluated(cli.found, files.stage)
            run = None if adapter.name == HOME else cli.trainer.run
            native = cli.trainer if adapter.name == HOME else run and run.native
            result = outcome(parts, cli.trainer, rows.rows, adapter.name, native)
            record.end(result)
        except BaseException as error:
            record.end(error)
            raise
    return result


def _run(files: FrameworkFiles, classes: Classes, parts: Parts, callbacks: list[Any]) -> Any:
    """Return the command line after it has run, or None if it has only printed its configuration.

    Raises:
        ConfigError: If it cannot be parsed.
    """
    from jsonargparse import ArgumentError  # noqa: PLC0415 - an optional package, which a caller has checked

    try:
        return parts.made(FileCLI)(
            classes.model,
            classes.data,
            save_config_callback=parts.made(SavedOnce),
            trainer_defaults={"callbacks": callbacks},
            parser_kwargs={**_STRICT, **{one: dict(_STRICT) for one in SECTIONS}},
            args=_arguments(files, classes.arguments),
        )
    except ArgumentError as error:
        raise ConfigError(f"{files.name}: {condensed(error.message)}", hint=_KEYS) from error
    except SystemExit as end:
        if end.code in (None, 0):
            return None
        raise


def _arguments(files: FrameworkFiles, further: tuple[str, ...]) -> list[str]:
    """Return a command line; files with sections come before the subcommand, as its parser does not read them."""
    sectioned = [any(one in contents for one in SECTIONS) for contents in files.contents]
    both = zip(files.paths, sectioned, strict=True)
    options = [(has, ["--config", path]) for path, has in both]
    before = [text for has, texts in options if has for text in texts]
    after = [text for has, texts in options if not has for text in texts]
    return [*before, files.stage, *after, *further]


def _evaluated(found: Any, stage: str) -> Any:
    """Return the metrics of several loaders as one dict, as ``trainer.validate`` does, or the predictions."""
    if stage == "predict":
        return list(found or [])
    return {name: value for one in found or [] for name, value in floats(one).items()}


def _runs(stage: str) -> Any:
    """Return the method of a subcommand, which LightningCLI calls instead of the Trainer's."""

    def method(self: Any, **given: Any) -> None:
        parts, loader = Parts(self.lightning.root), _LOADERS[stage]
        sources = [one for one in (self.model, self.datamodule) if one is not None]
        if not any(parts.is_overridden(loader, one) for one in sources):
            names = " and ".join(type(one).__name__ for one in sources)
            raise ConfigError(f"{stage} needs {loader}, which {names} lacks.", hint="--data mypackage.MyDataModule")
        try:
            self.found = getattr(self.trainer, stage)(**given)
        except parts.MisconfigurationException as error:
            raise ConfigError(str(error), hint=_KEYS) from error

    return method


class FileCLI(OnLightning):
    """LightningCLI, which says what is wrong as unitrain does, and keeps what a subcommand returns.

    Attributes:
        found: The metrics of an evaluation, or the predictions.
    """

    stands_on = "LightningCLI"
    found: Any = None

    def before_fit(self) -> None:
        """Tell the record the seed, which may have been drawn, and the checkpoint."""
        seed = self.config["fit"]["seed_everything"]
        for one in self.trainer.callbacks:
            if isinstance(one, RunRecorder):
                one.seed = None if isinstance(seed, bool) else seed
                one.checkpoint = self.config["fit"]["ckpt_path"]

    fit = _runs("fit")
    validate = _runs("validate")
    test = _runs("test")
    predict = _runs("predict")

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse, without the warning that the arguments are not those of the process."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)

    def instantiate_classes(self) -> None:
        """Build the model, the data and the Trainer.

        Raises:
            ConfigError: If one cannot be built.
        """
        try:
            super().instantiate_classes()
        except UnitrainError:
            raise
        except Exception as error:
            raise ConfigError(f"the classes of the file cannot be built: {told(error)}", hint=_KEYS) from error


class SavedOnce(OnLightning):
    """Saves the configuration of a run, in a folder that has none yet."""

    stands_on = "SaveConfigCallback"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Save it.

        Raises:
            ConfigError: If another run has saved its own there.
        """
        try:
            super().setup(trainer, pl_module, stage)
        except RuntimeError as error:
            there = Path(trainer.log_dir) / self.config_filename
            if not there.exists():
                raise
            raise ConfigError(
                f"{there} is of another run, and is not overwritten.",
                hint="--trainer.default_root_dir FOLDER, or a logger, which has a folder for each run.",
            ) from error
