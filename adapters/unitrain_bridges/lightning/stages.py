"""The four things that a Trainer does, from the author's call to what the backend's loop runs, and back."""

# ruff: noqa: SLF001 - what a Trainer keeps has Lightning's private names

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from unitrain.compat.instantiator import refuse_instantiator
from unitrain_bridges.lightning.arguments import refuse_callbacks
from unitrain_bridges.lightning.versions import refuse_resuming

if TYPE_CHECKING:
    from unitrain_bridges.lightning.fit import FitLoop
    from unitrain_bridges.lightning.prediction import PredictionLoop

_BOTH = "You cannot pass both `trainer.{name}(dataloaders=..., datamodule=...)`"
_BOTH_FIT = "You cannot pass `train_dataloader` or `val_dataloaders` to `trainer.fit(datamodule=...)`"


class _Given(NamedTuple):
    """What an author gave to one of the four calls."""

    model: Any
    dataloaders: Any
    datamodule: Any
    ckpt_path: Any
    weights_only: bool | None


class Stages:
    """``fit``, ``validate``, ``test`` and ``predict``, with what comes before and after, in Lightning's order."""

    parts: Any
    framework: str
    callbacks: Any
    hooks: Any
    logging: Any
    state: Any
    strategy: Any
    run: Any
    fit_loop: FitLoop
    predict_loop: PredictionLoop
    lightning_module: Any
    sanity_checking: Any
    should_stop: bool
    enable_autolog_hparams: bool
    enable_validation: Any
    num_sanity_val_steps: Any
    _active_loop: Any
    _evaluation_loop: Any
    _open_run: Any
    _detect_anomaly: bool
    _callback_connector: Any
    _checkpoint_connector: Any
    _data_connector: Any
    _signal_connector: Any

    def fit(  # noqa: PLR0917 - Lightning's signature
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train."""
        self._begin(model, "FITTING", "TRAINING")
        self.should_stop = False

        def work() -> None:
            train, module = self._data(train_dataloaders, datamodule)
            if module is not None and (train is not None or val_dataloaders is not None):
                raise self.parts.MisconfigurationException(_BOTH_FIT)
            data = {"train_dataloaders": train, "val_dataloaders": val_dataloaders}
            self._work(_Given(model, None, module, ckpt_path, weights_only), data, provided=True)

        self._guarded(work)

    def validate(  # noqa: PLR0917 - Lightning's signature
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return what a validation logs, a dict a loader."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        return self._evaluate("validate", given, verbose=verbose)

    def test(  # noqa: PLR0917 - Lightning's signature
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return what a test logs, a dict a loader."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        return self._evaluate("test", given, verbose=verbose)

    def predict(  # noqa: PLR0917 - Lightning's signature
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return the predictions, one item a batch, in a list a loader if there are several."""
        given = _Given(model, dataloaders, datamodule, ckpt_path, weights_only)
        self._begin(model, "PREDICTING", "PREDICTING", "predict")
        self.predict_loop.return_predictions = return_predictions is None or return_predictions
        return self._guarded(lambda: self._evaluated("predict", given))

    # --- the way there ------------------------------------------------------------------------------------------------

    def _evaluate(self, name: str, given: _Given, *, verbose: bool) -> Any:
        stage = "VALIDATING" if name == "validate" else "TESTING"
        self._begin(given.model, stage, stage, name)
        getattr(self, f"{name}_loop").verbose = verbose
        return self._guarded(lambda: self.parts.convert_tensors_to_scalars(self._evaluated(name, given)))

    def _evaluated(self, name: str, given: _Given) -> Any:
        loaders, datamodule = self._data(given.dataloaders, given.datamodule)
        if loaders is not None and datamodule is not None:
            raise self.parts.MisconfigurationException(_BOTH.format(name=name))
        kind = "val" if name == "validate" else name
        data = {f"{kind}_dataloaders": loaders}
        return self._work(given._replace(datamodule=datamodule), data, provided=given.model is not None)

    def _begin(self, model: Any, function: str, stage: str, name: str = "fit") -> None:
        if model is None and self.lightning_module is None:
            raise TypeError(
                f"`Trainer.{name}()` requires a `LightningModule` when it hasn't been passed in a previous run"
            )
        if model is not None:
            self.strategy._lightning_module = self.parts.maybe_unwrap_optimized(model)
        self.parts.verify_strategy_supports_compile(self.lightning_module, self.strategy)
        self.state.fn = getattr(self.parts.TrainerFn, function)
        self.state.status = self.parts.TrainerStatus.RUNNING
        self.state.stage = getattr(self.parts.RunningStage, stage)

    def _guarded(self, work: Any) -> Any:
        """Do ``work``; tell callbacks, loggers and the strategy of an error, and raise what Lightning raises."""
        return self.parts.call._call_and_handle_interrupt(self, work)

    def _data(self, loaders: Any, datamodule: Any) -> tuple[Any, Any]:
        """Return the loaders and the datamodule; a datamodule may stand in the loaders' place."""
        return (None, loaders) if isinstance(loaders, self.parts.LightningDataModule) else (loaders, datamodule)

    def _work(self, given: _Given, data: dict[str, Any], *, provided: bool) -> Any:
        model = self.lightning_module
        self._data_connector.attach_data(model, **data, datamodule=given.datamodule)
        path = self._checkpoint_connector._select_ckpt_path(
            self.state.fn, given.ckpt_path, model_provided=provided, model_connected=model is not None
        )
        found = self._run(model, path, given.weights_only)
        self.state.stage = None
        return found

    # --- a run --------------------------------------------------------------------------------------------------------

    def _run(self, model: Any, ckpt_path: Any, weights_only: Any) -> Any:
        parts, fits = self.parts, self.state.fn == self.parts.TrainerFn.FITTING
        if fits:
            loop = self.fit_loop
            given = loop.min_steps, loop.max_steps, loop.min_epochs, loop.max_epochs
            loop.min_epochs, loop.max_epochs = parts.parse_loop_limits(*given, self)
        if hasattr(model, "hparams"):
            parts.clean_namespace(model.hparams)
        self.strategy.connect(model)
        self._callback_connector._attach_model_callbacks()
        refuse_callbacks(self.callbacks, self.framework)
        refuse_instantiator(ckpt_path, parts.version)
        if fits and ckpt_path:
            refuse_resuming(parts, self.framework)
        self._callback_connector._attach_model_logging_functions()
        parts.verify_loop_configurations(self)
        self.run = self._open_run(self.strategy.root_device)
        self._set_up(ckpt_path, weights_only, fits=fits)
        found = self._run_stage()
        self._teardown()
        if fits:
            self.hooks.both("on_fit_end")
        parts.call._call_teardown_hook(self)
        self.state.status = parts.TrainerStatus.FINISHED
        self.state.stage = None
        return found

    def _set_up(self, ckpt_path: Any, weights_only: Any, *, fits: bool) -> None:
        parts, checkpoints = self.parts, self._checkpoint_connector
        self.strategy.setup_environment()
        self._data_connector.prepare_data()
        parts.call._call_setup_hook(self)
        parts.call._call_configure_model(self)
        checkpoints._restore_modules_and_callbacks(ckpt_path, *(() if weights_only is None else (weights_only,)))
        self.logging.reset_results()
        self.logging.reset_metrics()
        self.strategy.setup(self)
        if fits:
            self.hooks.both("on_fit_start")
        if self.enable_autolog_hparams:
            parts.log_hyperparams(self)
        checkpoints.restore_training_state()
        checkpoints.resume_end()
        self._signal_connector.register_signal_handlers()

    def _run_stage(self) -> Any:
        functions = self.parts.TrainerFn
        self.lightning_module.zero_grad()
        if self.state.fn == functions.PREDICTING:
            return self.predict_loop.run()
        if self.state.fn != functions.FITTING:
            return self._evaluation_loop.run()
        with self.parts.isolate_rng():
            self._sanity_check()
        with torch.autograd.set_detect_anomaly(self._detect_anomaly):
            self.fit_loop.run()
        return None

    def _sanity_check(self) -> None:
        loop = self.fit_loop.epoch_loop.val_loop
        if not self.enable_validation or self.num_sanity_val_steps <= 0 or loop.restarting:
            return
        stage = self.state.stage
        self.sanity_checking = True
        self.logging.reset_results()
        self.logging.reset_metrics()
        self.hooks.callbacks("on_sanity_check_start")
        loop.run()
        self.hooks.callbacks("on_sanity_check_end")
        self.logging.reset_results()
        self.logging.reset_metrics()
        loop.clear()
        self.state.stage = stage

    def _teardown(self) -> None:
        self.strategy.teardown()
        loop = self._active_loop
        if loop is not None:
            loop.teardown()
        self.logging.teardown()
        self._signal_connector.teardown()
