"""The stand-in Trainer that a module, its callbacks and loggers see on another backend."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

import os
from contextlib import contextmanager
from math import ceil, inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from unitrain.errors import UnsupportedFeatureError, did_you_mean
from unitrain_bridges.lightning.arguments import (
    check_arguments,
    clip_algorithm,
    refuse_plugin,
    refuse_processes,
)
from unitrain_bridges.lightning.barebones import without_extras
from unitrain_bridges.lightning.evaluation import EvaluationLoop
from unitrain_bridges.lightning.fit import FitLoop
from unitrain_bridges.lightning.hooks import Hooks
from unitrain_bridges.lightning.prediction import PredictionLoop
from unitrain_bridges.lightning.replaced_parts import refuse_own_trainer
from unitrain_bridges.lightning.self_log import logging_of
from unitrain_bridges.lightning.stages import Stages
from unitrain_bridges.lightning.supported import ELSEWHERE, TRAINER
from unitrain_bridges.lightning.versions import refuse_elsewhere
from unitrain_lightning.entry_point_cache import remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitrain.backends.protocol import Run
    from unitrain_bridges.lightning.namespace import Parts
    from unitrain_bridges.lightning.trainer_protocol import TrainingLoop


class NoSuchAttributeError(UnsupportedFeatureError, AttributeError):
    """The requested attribute does not exist on this backend; ``hasattr`` is false."""


def _from(path: str) -> Any:
    """Return a documented property that reads the attribute at ``path``."""
    return property(attrgetter(path), doc=f"Equivalent to the Trainer attribute; reads ``{path}``.")


def _stage(name: str) -> Any:
    """Return a property that tells whether a stage is running, and can be set."""

    def get(self: Any) -> bool:
        stage, asked = self.state.stage, getattr(self.parts.RunningStage, name)
        return stage is asked or (stage is not None and bool(stage == asked))

    def put(self: Any, value: bool) -> None:
        if value:
            self.state.stage = getattr(self.parts.RunningStage, name)
        elif get(self):
            self.state.stage = None

    return property(get, put, doc="Whether this stage is running.")


def _kept(kind: str) -> Any:
    """Return a property with the callbacks of one kind."""

    def get(self: Any) -> list[Any]:
        return [one for one in self.callbacks if isinstance(one, getattr(self.parts, kind))]

    return property(get, doc=f"The callbacks that are a {kind}.")


def _first(path: str) -> Any:
    """Return a property with the first item of the list at ``path``, or None."""
    return property(lambda self: next(iter(attrgetter(path)(self)), None), doc=f"The first of ``{path}``, or None.")


def _loader(*loops: str) -> Any:
    """Return a property with the loaders of the first of ``loops`` that has any."""

    def get(self: Any) -> Any:
        found = (attrgetter(loop)(self)._combined_loader for loop in loops)
        return next((one.iterables for one in found if one is not None), None)

    return property(get, doc="The loaders in use, as given.")


_ANOMALY = (
    "You have turned on `Trainer(detect_anomaly=True)`. This will significantly slow down compute speed and is"
    " recommended only for model debugging."
)
_VAL_LOOP = "fit_loop.epoch_loop.val_loop"


class StandInTrainer(Stages):
    """A Trainer with the attributes that every backend supports; a backend's own loop runs its steps.

    Args:
        parts: The parts of Lightning that the module comes from.
        arguments: The arguments for a Trainer, under its own names.
        framework: The backend's name.
        open_run: Makes the backend's run for one fit or evaluation; takes the device.

    Attributes:
        run: The backend's run of the last fit or evaluation; None before.
        short_way: Whether a step leaves out what nobody overrode or listens to; tests set it to False to compare.

    Raises:
        VersionError: If Lightning is too old to be followed elsewhere.
        UnsupportedFeatureError: If an argument acts on Lightning only.
        MisconfigurationException: Lightning's own, if an argument is invalid.
    """

    short_way = True

    def __init__(
        self, parts: Parts, arguments: Mapping[str, Any], framework: str, open_run: Callable[[Any], Run]
    ) -> None:
        refuse_elsewhere(parts, framework)
        self.parts = parts
        self.framework = framework
        refuse_own_trainer(parts, self, StandInTrainer)
        self.run: Any = None
        self._open_run = open_run
        owner = parts.Trainer if type(self) is StandInTrainer else type(self)
        asked = check_arguments(parts, arguments, framework, owner)
        told = {"self": self, **asked, "__class__": parts.Trainer}
        parts.trainer_log.debug(f"{type(self).__name__}: Initializing trainer with parameters: {told}")
        given = without_extras(parts, asked)
        self._model_registry = None
        self._val_check_time_interval: float | None = None  # set by Lightning, since 2.6
        self.barebones = bool(given.get("barebones"))
        self._connect(given)
        self._limits(given)

    def _connect(self, given: dict[str, Any]) -> None:
        parts = self.parts
        names = ("accelerator", "strategy", "devices", "num_nodes", "precision", "plugins", "sync_batchnorm")
        more = ("benchmark", "deterministic", "use_distributed_sampler")
        self._data_connector = parts.DataConnector(self)
        self._accelerator_connector = parts.AcceleratorConnector(**{name: given[name] for name in names + more})
        refuse_processes(parts, self.strategy, given, self.framework)
        refuse_plugin(self.precision_plugin, self.framework)
        self.hooks = Hooks(self)
        self.logging = self._logger_connector = logging_of(self)
        self._callback_connector = parts.CallbackConnector(self)
        self._checkpoint_connector = parts.CheckpointConnector(self)
        self._signal_connector = parts.SignalConnector(self)
        inference = given["inference_mode"]
        stages, functions = parts.RunningStage, parts.TrainerFn
        self.fit_loop: TrainingLoop = FitLoop(self, given)
        self.validate_loop = EvaluationLoop(self, functions.VALIDATING, stages.VALIDATING, inference_mode=inference)
        self.test_loop = EvaluationLoop(self, functions.TESTING, stages.TESTING, inference_mode=inference)
        self.predict_loop = PredictionLoop(self, inference_mode=inference)

    def _limits(self, given: dict[str, Any]) -> None:
        parts = self.parts

        def switch(name: str, default: Any) -> Any:
            return default if given[name] is None else given[name]

        self.accumulate_grad_batches = given["accumulate_grad_batches"]
        with remembered(parts.root):
            self._callback_connector.on_trainer_init(
                given["callbacks"],
                switch("enable_checkpointing", True),
                switch("enable_progress_bar", True),
                given["default_root_dir"] and os.fspath(given["default_root_dir"]),
                switch("enable_model_summary", True),
                given["max_time"],
            )
        every, reload = given["val_check_interval"], given["reload_dataloaders_every_n_epochs"]
        self._data_connector.on_trainer_init(every, reload, given["check_val_every_n_epoch"])
        self.gradient_clip_val = given["gradient_clip_val"]
        self.gradient_clip_algorithm = clip_algorithm(parts, given)
        self._detect_anomaly = given["detect_anomaly"]
        if self._detect_anomaly:
            parts.rank_zero_info(_ANOMALY)
        parts.log_device_info(self)
        self.should_stop = False
        self.state = parts.TrainerState()
        parts.init_profiler(self, given["profiler"])
        self._logger_connector.on_trainer_init(switch("logger", True), switch("log_every_n_steps", 50))
        self.val_check_batch: int | float | None = None
        limits = [given[f"limit_{stage}_batches"] for stage in ("train", "val", "test", "predict")]
        sanity = switch("num_sanity_val_steps", 2)
        parts.init_debugging_flags(self, *limits, given["fast_dev_run"], given["overfit_batches"], every, sanity)
        self.enable_autolog_hparams = given.get("enable_autolog_hparams", True)  # since Lightning 2.6

    def __getstate__(self) -> dict[str, Any]:
        """Be copied and pickled without the backend's run."""
        return {**vars(self), "run": None}

    def __getattr__(self, name: str) -> Any:
        raise _missing(self.parts.Trainer if "parts" in vars(self) else object, name, vars(self).get("framework"))

    # --- where it runs ------------------------------------------------------------------------------------------------

    strategy = _from("_accelerator_connector.strategy")
    accelerator = _from("strategy.accelerator")
    precision_plugin = _from("strategy.precision_plugin")
    precision = _from("precision_plugin.precision")
    lightning_module = _from("strategy._lightning_module")
    model = _from("strategy.model")
    lr_scheduler_configs = _from("strategy.lr_scheduler_configs")
    is_global_zero = _from("strategy.is_global_zero")
    global_rank = _from("strategy.global_rank")
    local_rank = _from("strategy.local_rank")
    world_size = _from("strategy.world_size")
    received_sigterm = _from("_signal_connector.received_sigterm")
    node_rank = property(lambda self: 0, doc="Always 0: a single host.")  # noqa: ARG005
    num_nodes = property(lambda self: 1, doc="Always 1: a single host.")  # noqa: ARG005
    num_devices = property(lambda self: 1, doc="Always 1: a single device.")  # noqa: ARG005
    device_ids = property(lambda self: [self.strategy.root_device.index or 0], doc="The device index.")
    distributed_sampler_kwargs = property(lambda self: None, doc="Always None: a single process.")  # noqa: ARG005
    scaler = property(lambda self: getattr(self.precision_plugin, "scaler", None), doc="The gradient scaler, or None.")

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order of ``configure_optimizers``."""
        found: list[Any] = self.strategy.optimizers
        return found

    @optimizers.setter
    def optimizers(self, optimizers: list[Any]) -> None:
        self.strategy.optimizers = optimizers

    # --- where it is --------------------------------------------------------------------------------------------------

    training = _stage("TRAINING")
    validating = _stage("VALIDATING")
    testing = _stage("TESTING")
    predicting = _stage("PREDICTING")
    sanity_checking = _stage("SANITY_CHECKING")
    evaluating = property(lambda self: self.state.stage is not None and self.state.stage.evaluating, doc="As it says.")
    interrupted = property(lambda self: self.state.status == self.parts.TrainerStatus.INTERRUPTED, doc="As it says.")
    global_step = _from("fit_loop.epoch_loop.global_step")
    current_epoch = _from("fit_loop.epoch_progress.current.completed")
    max_epochs = _from("fit_loop.max_epochs")
    min_epochs = _from("fit_loop.min_epochs")
    max_steps = _from("fit_loop.max_steps")
    min_steps = _from("fit_loop.min_steps")
    is_last_batch = _from("fit_loop.epoch_loop.batch_progress.is_last_batch")
    num_training_batches = _from("fit_loop.max_batches")
    num_test_batches = _from("test_loop.max_batches")
    num_predict_batches = _from("predict_loop.max_batches")
    train_dataloader = _loader("fit_loop")
    val_dataloaders = _loader(_VAL_LOOP, "validate_loop")
    test_dataloaders = _loader("test_loop")
    predict_dataloaders = _loader("predict_loop")

    @property
    def enable_validation(self) -> bool:
        """Whether the fit validates."""
        defined = attrgetter(_VAL_LOOP)(self)._data_source.is_defined()
        overridden = self.parts.is_overridden("validation_step", self.lightning_module)
        return bool(defined and overridden and self.limit_val_batches > 0)

    @property
    def num_val_batches(self) -> list[int | float]:
        """How many batches of each validation loader are used."""
        if self.state.fn == self.parts.TrainerFn.VALIDATING:
            return self.validate_loop.max_batches
        val_loop: EvaluationLoop = self.fit_loop.epoch_loop.val_loop
        return val_loop._max_batches

    @property
    def num_sanity_val_batches(self) -> list[int | float]:
        """How many batches of each validation loader the sanity check uses."""
        return [min(self.num_sanity_val_steps, one) for one in self.fit_loop.epoch_loop.val_loop.max_batches]

    @property
    def estimated_stepping_batches(self) -> int | float:
        """How many optimizer steps the fit will make, as far as can be known."""
        if self.max_epochs == -1:
            return inf if self.max_steps == -1 else int(self.max_steps)
        if self.train_dataloader is None:
            self.parts.rank_zero_info("Loading `train_dataloader` to estimate number of stepping batches.")
            self.fit_loop.setup_data()
        if self.num_training_batches == inf:
            return int(self.max_steps)
        epochs: int = max(self.max_epochs or 0, 1)
        steps: int = ceil(self.num_training_batches / self.accumulate_grad_batches) * epochs
        return steps if self.max_steps == -1 else min(steps, int(self.max_steps))

    @property
    def _evaluation_loop(self) -> EvaluationLoop:
        functions = self.parts.TrainerFn
        of_fit: EvaluationLoop = self.fit_loop.epoch_loop.val_loop
        loops = {functions.VALIDATING: self.validate_loop, functions.TESTING: self.test_loop}
        return loops.get(self.state.fn, of_fit)

    @property
    def _active_loop(self) -> Any:
        if self.training:
            return self.fit_loop
        if self.sanity_checking or self.evaluating:
            return self._evaluation_loop
        return self.predict_loop if self.predicting else None

    @property
    def _results(self) -> Any:
        loop = self._active_loop
        return None if loop is None else loop._results

    # --- what is measured, and who is told ----------------------------------------------------------------------------

    callback_metrics = _from("_logger_connector.callback_metrics")
    logged_metrics = _from("_logger_connector.logged_metrics")
    progress_bar_metrics = _from("_logger_connector.progress_bar_metrics")
    checkpoint_callbacks = _kept("Checkpoint")
    checkpoint_callback = _first("checkpoint_callbacks")
    early_stopping_callbacks = _kept("EarlyStopping")
    early_stopping_callback = _first("early_stopping_callbacks")
    progress_bar_callback = property(
        lambda self: next((one for one in self.callbacks if isinstance(one, self.parts.ProgressBar)), None),
        doc="The progress bar, or None.",
    )

    @property
    def loggers(self) -> list[Any]:
        """The loggers."""
        return self._loggers

    @loggers.setter
    def loggers(self, loggers: list[Any] | None) -> None:
        self._loggers: list[Any] = loggers or []

    @property
    def logger(self) -> Any:
        """The first logger, or None."""
        return self.loggers[0] if self.loggers else None

    @logger.setter
    def logger(self, logger: Any) -> None:
        self.loggers = [logger] if logger else []

    @property
    def default_root_dir(self) -> str:
        """Default folder for files."""
        folder: str = self._default_root_dir
        local = self.parts.is_local_file_protocol(folder)
        return os.path.normpath(os.path.expanduser(folder)) if local else folder  # noqa: PTH111 - text, as Lightning's

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger, else ``default_root_dir``."""
        if not self.loggers:
            return self.default_root_dir
        first, own = self.loggers[0], (self.parts.TensorBoardLogger, self.parts.CSVLogger)
        folder: str | None = first.log_dir if isinstance(first, own) else first.save_dir
        return folder

    @property
    def ckpt_path(self) -> Any:
        """The checkpoint that was read for the last run, or None."""
        return self._checkpoint_connector._ckpt_path

    @ckpt_path.setter
    def ckpt_path(self, path: Any) -> None:
        self._checkpoint_connector._ckpt_path = path
        self._checkpoint_connector._user_managed = bool(path)

    # --- to call ------------------------------------------------------------------------------------------------------

    def save_checkpoint(self, filepath: Any, weights_only: bool | None = None, storage_options: Any = None) -> None:
        """Write a checkpoint in Lightning's form."""
        if self.model is None:
            raise AttributeError("Saving a checkpoint is only possible if a model is attached to the Trainer.")
        with self.profiler.profile("save_checkpoint"):
            checkpoint = self._checkpoint_connector.dump_checkpoint(weights_only)
            self.strategy.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def print(self, *values: Any, **options: Any) -> None:
        """Print, as ``print`` does."""
        print(*values, **options)  # noqa: T201 - that is what it is for

    @contextmanager
    def init_module(self, empty_init: bool | None = None) -> Iterator[None]:
        """Make a module's tensors on the device and with the precision of the run."""
        with self.strategy.tensor_init_context(empty_init=empty_init):
            yield


def _missing(trainer: type, name: str, framework: str | None) -> NoSuchAttributeError:
    if name in ELSEWHERE or hasattr(trainer, name):
        hint = ELSEWHERE.get(name) or "framework='lightning', or use attributes that every backend has."
        return NoSuchAttributeError(f"trainer.{name} only exists on 'lightning', not on {framework!r}.", hint=hint)
    return NoSuchAttributeError(f"a Trainer has no attribute {name!r}.", hint=did_you_mean(name, TRAINER))
