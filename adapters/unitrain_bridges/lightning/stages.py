"""The four entry points of a Trainer: fit, validate, test and predict."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import proxy

import torch

from unitrain.compat.instantiator import refuse_instantiator
from unitrain_bridges.lightning.barebones import RUNS
from unitrain_bridges.lightning.dead_hooks import warn_of_dead_hooks
from unitrain_bridges.lightning.repeated_log import repeated_log
from unitrain_bridges.lightning.replaced_parts import refuse_loops
from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer
from unitrain_bridges.lightning.versions import refuse_resuming

if TYPE_CHECKING:
    from unitrain_bridges.lightning.evaluation import EvaluationLoop
    from unitrain_bridges.lightning.prediction import PredictionLoop

_BOTH = "You cannot pass both `trainer.{name}(dataloaders=..., datamodule=...)`"
_BOTH_FIT = "You cannot pass `train_dataloader` or `val_dataloaders` to `trainer.fit(datamodule=...)`"


class _Given(NamedTuple):
    """The arguments of one of the four calls."""

    model: Any
    dataloaders: Any
    datamodule: Any
    ckpt_path: Any
    weights_only: bool | None


class StagedTrainer(ModuleTrainer, Protocol):
    """A Trainer, by Lightning's own names, as far as a whole stage needs it.

    Attributes:
        predict_loop: The loop of a prediction.
        enable_autolog_hparams: Whether loggers get the hyperparameters.
        barebones: Whether everything is off that costs time beside the training.
    """

    predict_loop: PredictionLoop
    enable_autolog_hparams: bool
    barebones: bool
    _detect_anomaly: bool
    _callback_connector: Any
    _checkpoint_connector: Any
    _data_connector: Any
    _signal_connector: Any

    @property
    def _active_loop(self) -> Any:
        """The loop of the running stage, or None."""

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger, else that of the run."""

    @property
    def _evaluation_loop(self) -> EvaluationLoop:
        """The loop of the running validation or test."""

    def _teardown(self) -> None:
        """Tear down a run."""


class Stages:
    """``fit``, ``validate``, ``test`` and ``predict`` with their set-up and teardown, in Lightning's order."""

    def fit(  # noqa: PLR0917 - Lightning's signature
        self: StagedTrainer,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train."""
        _begin(self, model, "FITTING", "TRAINING")
        self.should_stop = False

        def work() -> None:
            _told(self, "trainer fit stage")
            train, module = _data(self, train_dataloaders, datamodule)
            if module is not None and (train is not None or val_dataloaders is not None):
                raise self.parts.MisconfigurationException(_BOTH_FIT)
            data = {"train_dataloaders": train, "val_dataloaders": val_dataloaders}
            _work(self, _Given(model, None, module, ckpt_path, weights_only), data, provided=True)

        _guarded(self, work)

    def validate(  # noqa: PLR0917 - Lightning's signature
        self: StagedTrainer,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return the logged values of a validation, one dict per loader."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        return _evaluate(self, "validate", given, verbose=verbose)

    def test(  # noqa: PLR0917 - Lightning's signature
        self: StagedTrainer,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return the logged values of a test, one dict per loader."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        return _evaluate(self, "test", given, verbose=verbose)

    def predict(  # noqa: PLR0917 - Lightning's signature
        self: StagedTrainer,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return the predictions, one item per batch, in one list per loader if there are several."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        _begin(self, model, "PREDICTING", "PREDICTING", "predict")
        self.predict_loop.return_predictions = return_predictions is None or return_predictions
        return _guarded(self, lambda: _evaluated(self, "predict", given))

    def _teardown(self: StagedTrainer) -> None:  # Lightning calls it after an error
        self.strategy.teardown()
        loop = self._active_loop
        if loop is not None:
            loop.teardown()
        self.logging.teardown()
        self._signal_connector.teardown()


# --- the way there ----------------------------------------------------------------------------------------------------


def _evaluate(trainer: StagedTrainer, name: str, given: _Given, *, verbose: bool) -> Any:
    stage = "VALIDATING" if name == "validate" else "TESTING"
    _begin(trainer, given.model, stage, stage, name)
    trainer._evaluation_loop.verbose = verbose
    return _guarded(trainer, lambda: trainer.parts.convert_tensors_to_scalars(_evaluated(trainer, name, given)))


def _told(trainer: StagedTrainer, what: str) -> None:
    """Write Lightning's debug messages about a run."""
    trainer.parts.trainer_log.debug(f"{type(trainer).__name__}: {what}")


def _evaluated(trainer: StagedTrainer, name: str, given: _Given) -> Any:
    _told(trainer, f"trainer {name} stage")
    loaders, datamodule = _data(trainer, given.dataloaders, given.datamodule)
    if loaders is not None and datamodule is not None:
        raise trainer.parts.MisconfigurationException(_BOTH.format(name=name))
    kind = "val" if name == "validate" else name
    data = {f"{kind}_dataloaders": loaders}
    return _work(trainer, given._replace(datamodule=datamodule), data, provided=given.model is not None)


def _begin(trainer: StagedTrainer, model: Any, function: str, stage: str, name: str = "fit") -> None:
    if model is None and trainer.lightning_module is None:
        raise TypeError(f"`Trainer.{name}()` requires a `LightningModule` when it hasn't been passed in a previous run")
    if model is not None:
        trainer.strategy._lightning_module = trainer.parts.maybe_unwrap_optimized(model)
    trainer.parts.verify_strategy_supports_compile(trainer.lightning_module, trainer.strategy)
    trainer.state.fn = getattr(trainer.parts.TrainerFn, function)
    trainer.state.status = trainer.parts.TrainerStatus.RUNNING
    trainer.state.stage = getattr(trainer.parts.RunningStage, stage)
    trainer.hooks.look()


def _guarded(trainer: StagedTrainer, work: Any) -> Any:
    """Do ``work``; notify callbacks, loggers and the strategy of an error, and raise as Lightning does."""
    return trainer.parts.call._call_and_handle_interrupt(trainer, work)


def _data(trainer: StagedTrainer, loaders: Any, datamodule: Any) -> tuple[Any, Any]:
    """Return the loaders and the datamodule; a datamodule may be given instead of loaders."""
    return (None, loaders) if isinstance(loaders, trainer.parts.LightningDataModule) else (loaders, datamodule)


def _work(trainer: StagedTrainer, given: _Given, data: dict[str, Any], *, provided: bool) -> Any:
    model = trainer.lightning_module
    trainer._data_connector.attach_data(model, **data, datamodule=given.datamodule)
    path = trainer._checkpoint_connector._select_ckpt_path(
        trainer.state.fn, given.ckpt_path, model_provided=provided, model_connected=model is not None
    )
    found = _run(trainer, model, path, given.weights_only)
    trainer.state.stage = None
    return found


# --- a run ------------------------------------------------------------------------------------------------------------


def _run(trainer: StagedTrainer, model: Any, ckpt_path: Any, weights_only: Any) -> Any:
    parts, fits = trainer.parts, trainer.state.fn == trainer.parts.TrainerFn.FITTING
    refuse_loops(parts, trainer)
    if fits:
        loop = trainer.fit_loop
        given = loop.min_steps, loop.max_steps, loop.min_epochs, loop.max_epochs
        loop.min_epochs, loop.max_epochs = parts.parse_loop_limits(*given, trainer)
    if trainer.barebones:
        parts.rank_zero_info(RUNS)
    if hasattr(model, "hparams"):
        parts.clean_namespace(model.hparams)
    trainer.strategy.connect(model)
    trainer._callback_connector._attach_model_callbacks()
    warn_of_dead_hooks(one for one in (model, trainer.datamodule, *trainer.callbacks) if one is not None)
    refuse_instantiator(ckpt_path, parts.version)
    if fits and ckpt_path:
        refuse_resuming(parts, trainer.framework)
    trainer._callback_connector._attach_model_logging_functions()
    parts.verify_loop_configurations(trainer)
    trainer.run = trainer._open_run(trainer.strategy.root_device)
    _set_up(trainer, ckpt_path, weights_only, fits=fits)
    found = _run_stage(trainer)
    _told(trainer, "trainer tearing down")
    trainer._teardown()
    if fits:
        trainer.hooks.both("on_fit_end")
    _told(trainer, "calling teardown hooks")
    parts.call._call_teardown_hook(trainer)
    trainer.state.status = parts.TrainerStatus.FINISHED
    trainer.state.stage = None
    return found


def _set_up(trainer: StagedTrainer, ckpt_path: Any, weights_only: Any, *, fits: bool) -> None:
    parts, checkpoints = trainer.parts, trainer._checkpoint_connector
    _told(trainer, "setting up strategy environment")
    trainer.strategy.setup_environment()
    trainer.profiler._lightning_module = proxy(trainer.lightning_module)
    trainer.profiler.setup(stage=trainer.state.fn, local_rank=None, log_dir=trainer.log_dir)
    _told(trainer, "preparing data")
    trainer._data_connector.prepare_data()
    parts.call._call_setup_hook(trainer)
    _told(trainer, "configuring model")
    parts.call._call_configure_model(trainer)
    restores_later = trainer.strategy.restore_checkpoint_after_setup
    if not restores_later:
        _restore(trainer, ckpt_path, *(() if weights_only is None else (weights_only,)))
    trainer.logging.reset_results()
    trainer.logging.reset_metrics()
    trainer.strategy.setup(trainer)
    if fits:
        trainer.hooks.both("on_fit_start")
    if trainer.enable_autolog_hparams:
        parts.log_hyperparams(trainer)
    if restores_later:
        _restore(trainer, ckpt_path)  # without weights_only, as Lightning does
    _told(trainer, "restoring training state")
    checkpoints.restore_training_state()
    checkpoints.resume_end()
    trainer._signal_connector.register_signal_handlers()


def _restore(trainer: StagedTrainer, ckpt_path: Any, *weights_only: bool) -> None:
    _told(trainer, f"restoring module and callbacks from checkpoint path: {ckpt_path}")
    trainer._checkpoint_connector._restore_modules_and_callbacks(ckpt_path, *weights_only)


def _run_stage(trainer: StagedTrainer) -> Any:
    functions = trainer.parts.TrainerFn
    trainer.lightning_module.zero_grad()
    if trainer.state.fn == functions.PREDICTING:
        return trainer.predict_loop.run()
    if trainer.state.fn != functions.FITTING:
        return trainer._evaluation_loop.run()
    with trainer.parts.isolate_rng():
        _sanity_check(trainer)
    with torch.autograd.set_detect_anomaly(trainer._detect_anomaly), repeated_log(trainer):
        trainer.fit_loop.run()
    return None


def _sanity_check(trainer: StagedTrainer) -> None:
    loop = trainer.fit_loop.epoch_loop.val_loop
    if not trainer.enable_validation or trainer.num_sanity_val_steps <= 0 or loop.restarting:
        return
    stage = trainer.state.stage
    trainer.sanity_checking = True
    trainer.logging.reset_results()
    trainer.logging.reset_metrics()
    trainer.hooks.callbacks("on_sanity_check_start")
    loop.run()
    trainer.hooks.callbacks("on_sanity_check_end")
    trainer.logging.reset_results()
    trainer.logging.reset_metrics()
    loop.clear()
    trainer.state.stage = stage
