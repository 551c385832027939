"""UnifiedTrainer: validates its input and delegates to a backend."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Never, Unpack, cast

import torch
from torch import nn

from unitrain.backends.features import refuse, require_config
from unitrain.backends.protocol import Feature, Stage
from unitrain.backends.registry import find_adapter, find_trackers
from unitrain.callbacks import Callback, History, named
from unitrain.checkpoint.hparams import plain_hparams
from unitrain.checkpoint.model_weights import load_model
from unitrain.checkpoint.restore import begin
from unitrain.checkpoint.resume import Ended, finished, readable, resumed
from unitrain.compat.other_names import RUN_ARGUMENTS
from unitrain.compat.trainer_arguments import old_spellings
from unitrain.config import TrainerConfig, TrainerOptions
from unitrain.data.batch import to_device
from unitrain.distributed.launch.process_group import world_of
from unitrain.errors import ConfigError, refuse_unknown
from unitrain.interop.foreign_callbacks import CallbackSet
from unitrain.interop.foreign_code import ForeignCode
from unitrain.loggers.dispatch import Tracking
from unitrain.run.hub import Event, EventHub
from unitrain.run.result import show_metrics
from unitrain.session.monitors import warn_of_idle
from unitrain.session.prepare import check_native_names, eval_job, fit_job, with_fields
from unitrain.session.remote import elsewhere, unseen
from unitrain.session.run_scope import (
    by_loader,
    evaluation_on_the_clock,
    fit_on_the_clock,
    listening,
    loaders_noted,
    outcome,
    profiled,
    progress,
    require_returned,
    unless_pruned,
)
from unitrain.session.run_setup import RunSetup
from unitrain.session.sanity_check import validate_first
from unitrain.session.signals import guarded
from unitrain.spec import SpecOptions, TrainSpec
from unitrain.utilities.rng import preserved_rng
from unitrain.utilities.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch.optim import Optimizer

    from unitrain.backends.foreign import ForeignTrainer
    from unitrain.backends.protocol import EvalJob, Run
    from unitrain.backends.registry import Framework
    from unitrain.data.sources import EvalData, TrainData
    from unitrain.interop.ignite_programs import FrameworkCode
    from unitrain.run.result import FitResult


@with_options(TrainerConfig)
class UnifiedTrainer(RunSetup):
    """Trains a spec on a real Lightning ``Trainer`` or a real Ignite ``Engine``, with bit-identical results.

    A trainer can be pickled and copied, even after a run: the copy has the options, handlers, callbacks and counters,
    but not the native object and optimizers of the last run, and requires a spec again. A native object that
    ``create_trainer()`` built for the next run is copied too, with its handlers.

    Args:
        framework: ``"lightning"``, ``"ignite"``, ``"reference"`` (the bare PyTorch loop), the name of another installed
            backend, or an Adapter object.
        **options: The fields of ``TrainerConfig``, as below; names follow Lightning.

    Raises:
        ConfigError: If an option is unknown or invalid.
        BackendNotInstalledError: If the framework is not installed.
        UnsupportedFeatureError: If the framework does not support a requested feature.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> net, sgd = torch.nn.Linear(4, 1), partial(torch.optim.SGD, lr=0.1)
        >>> spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=sgd)
        >>> batches = [(torch.randn(8, 4), torch.randn(8, 1)) for _ in range(3)]
        >>> UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False).fit(spec, batches).step
        6
    """

    def __init__(self, framework: Framework, **options: Unpack[TrainerOptions]) -> None:
        accepted = TrainerConfig.__dataclass_fields__
        refuse_unknown(options, accepted, "UnifiedTrainer", ConfigError, old_spellings(options))
        if "loggers" in options:
            options["loggers"] = find_trackers(options["loggers"])
        given = TrainerConfig(**options)
        self.config = given.resolved()
        self._adapter = find_adapter(framework)
        self._world = world_of(self.config)
        check_native_names(self.config, self._adapter)
        require_config(self._adapter, self.config)
        self._callbacks = CallbackSet(self._adapter, self.config.callbacks)
        self._hub = EventHub()
        self._code = ForeignCode(self._adapter, given, self._hub)
        self._elsewhere = elsewhere(type(self), self._adapter, self.config, self._world, self._hub)
        self._tracking = Tracking(() if self.rank else self.config.loggers, self.config.log_every_n_steps)
        self._next: Run | None = None
        self._last: Run | ForeignTrainer | None = None
        self._spec: TrainSpec | None = None
        self._optimizers: Mapping[str, Optimizer] = {}
        self._data: tuple[Any, Any, Any] = (None, None, None)
        self._busy = False

    def __getstate__(self) -> dict[str, Any]:
        """Drop the objects of the last run; keep what ``create_trainer`` has built for the next one."""
        run: dict[str, Any] = {
            "_last": None,
            "_spec": None,
            "_optimizers": {},
            "_data": (None, None, None),
            "_busy": False,
        }
        return {**self.__dict__, **run}

    # --- running ------------------------------------------------------------------------------------------------------

    def fit(
        self,
        spec: TrainSpec | FrameworkCode,
        train_dataloaders: TrainData | None = None,
        val_dataloaders: EvalData | None = None,
        *,
        ckpt_path: str | Path | None = None,
        **unknown: Never,
    ) -> FitResult:
        """Train.

        Args:
            spec: What to train: a TrainSpec, or unchanged native code: a LightningModule, an Ignite engine
                or what ``from_engine`` and ``from_step`` return.
            train_dataloaders: A DataLoader or another iterable of batches, a DataSpec, or a LightningDataModule.
                Several loaders yield one batch each, like ``CombinedLoader(loaders, "max_size_cycle")``.
            val_dataloaders: Validation data, if the training data does not include it. Several loaders, ``{"clean": a,
                "noisy": b}`` or ``[a, b]``, are evaluated separately under their names: ``val/clean/loss``,
                ``val/0/loss``.
            ckpt_path: A checkpoint to resume from: a path; ``"last"``, the newest that this trainer, or an earlier run
                with the same ModelCheckpoint folder, wrote; or ``"best"``, the best of that run.
            **unknown: Always raises; the error suggests the intended name.

        Returns:
            The result. Resuming the last checkpoint of a finished run (by its epochs or steps, or by EarlyStopping
            with the same arguments) returns its result, as far as stored in the file, without further steps.

        Raises:
            UnitrainError: If anything is invalid, before training starts.
            KeyboardInterrupt: On a second Ctrl-C; the first one stops the fit like ``stop()``, and SIGTERM also saves.
            optuna.TrialPruned: If a ``Pruning`` callback stopped the fit.
        """
        refuse_unknown(unknown, _FIT, "fit()", ConfigError, RUN_ARGUMENTS)
        return unless_pruned(self._fit(spec, (train_dataloaders, val_dataloaders), ckpt_path))

    def _fit(self, spec: TrainSpec | FrameworkCode, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        if not isinstance(spec, TrainSpec):
            with self._lent(spec):
                self._data = (spec, *data)
                return self._code.fit(spec, data, ckpt_path)
        return self._fit_spec(spec, data, ckpt_path)

    def _fit_spec(self, spec: TrainSpec, data: tuple[Any, Any], ckpt_path: Any) -> FitResult:
        self._data = (spec, *data)
        self._require(None, ckpt_path)
        hparams = plain_hparams(spec.hparams)
        path = None if ckpt_path is None else self._checkpoint(ckpt_path, spec)
        history, tracking = History(), self._tracking
        callbacks = named((history, tracking, *self._callbacks.of(spec.callbacks).own))
        if self._elsewhere is not None:
            self._spec = spec
            given = {"train_dataloaders": data[0], "val_dataloaders": data[1], "ckpt_path": path}
            result, self._optimizers = self._elsewhere.fit(callbacks, spec=spec, **given)
            return result
        with (
            self._placed() as place,
            self._running(spec, data[0], place) as run,
            fit_job(self._adapter, self.config, self._hub, place, spec=spec, data=data, callbacks=callbacks) as job,
        ):
            found = None if path is None else readable(job, path)
            begin(job)
            self._optimizers = job.optimizers
            if found is None:
                validate_first(self._adapter, job)
            ready = job if found is None else resumed(job, found)
            if finished(ready):
                self._hub.last_checkpoint = path
                self._hub.context = cast("Any", Ended(ready))
                return outcome(ready, history, (self.framework, run.native))
            with (
                profiled(self.config.profiler, self._hub, Event.BATCH_END, shows=not self.rank),
                tracking.open(self._hub, hparams),
                listening(self._hub, history),
                progress(self._hub, wanted=self._shows_progress(spec)),
                listening(self._hub, tracking if self.config.loggers else Callback()),
                torch.enable_grad(),
                guarded(ready),
            ):
                run.fit(fit_on_the_clock(ready))
            warn_of_idle(ready)
            return outcome(ready, history, (self.framework, run.native))

    def train(
        self,
        model: nn.Module | TrainSpec | FrameworkCode,
        train_dataloaders: TrainData,
        val_dataloaders: EvalData | None = None,
        **spec: Unpack[SpecOptions],
    ) -> FitResult:
        """Train a spec, native code, or a plain module with the other fields of TrainSpec as keywords.

        Args:
            model: As ``spec`` in ``fit``, or a module.
            train_dataloaders: As in ``fit``.
            val_dataloaders: As in ``fit``.
            **spec: ``loss=``, ``optimizer=`` and the like, if ``model`` is a module.
        """
        return self.fit(with_fields(model, spec), train_dataloaders, val_dataloaders)

    def validate(
        self,
        spec: TrainSpec | FrameworkCode | None = None,
        dataloaders: EvalData | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool | None = None,
        **unknown: Never,
    ) -> dict[str, float]:
        """Return the validation metrics, named ``val/...``; matrices and curves are in ``trainer.state.tensors``.

        After a fit, ``validate(ckpt_path="best")`` is enough. Trackers get a row at the step of the fit.

        Args:
            spec: As in ``fit``; by default, what ran last.
            dataloaders: As in ``fit``; by default, the validation data of the last fit of the same spec.
            ckpt_path: A checkpoint to load weights from: its path, ``"best"`` or ``"last"``, as in ``fit``. The model
                keeps these weights.
            **unknown: Always raises; the error suggests the intended name.
            verbose: Whether to print the metrics as a table; None prints it only for a LightningModule, as Lightning
                does.
        """
        refuse_unknown(unknown, _EVALUATE, "validate()", ConfigError, RUN_ARGUMENTS)
        return self._evaluate(spec, dataloaders, Stage.VAL, ckpt_path, verbose)

    def test(
        self,
        spec: TrainSpec | FrameworkCode | None = None,
        dataloaders: EvalData | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool | None = None,
        **unknown: Never,
    ) -> dict[str, float]:
        """Return the test metrics, named ``test/...``; matrices and curves are in ``trainer.state.tensors``.

        Args:
            spec: As in ``fit``; by default, what ran last.
            dataloaders: As in ``fit``; by default, the test data of the DataSpec or datamodule of the last fit.
            ckpt_path: As in ``validate``: a path, ``"best"`` or ``"last"``.
            verbose: As in ``validate``.
            **unknown: Always raises; the error suggests the intended name.
        """
        refuse_unknown(unknown, _EVALUATE, "test()", ConfigError, RUN_ARGUMENTS)
        return self._evaluate(spec, dataloaders, Stage.TEST, ckpt_path, verbose)

    def predict(
        self,
        spec: TrainSpec | FrameworkCode | None = None,
        dataloaders: EvalData | None = None,
        ckpt_path: str | Path | None = None,
        *,
        return_predictions: bool = True,
        **unknown: Never,
    ) -> Any:
        """Return the predictions, one item per batch, on the CPU.

        Args:
            spec: As in ``fit``; by default, what ran last.
            dataloaders: As in ``fit``; by default, the data to predict of the DataSpec or datamodule of the last fit.
            ckpt_path: As in ``validate``: a path, ``"best"`` or ``"last"``.
            return_predictions: False keeps no predictions in memory and returns None, for a PredictionWriter.
            **unknown: Always raises; the error suggests the intended name.

        Returns:
            A list; for several loaders of a TrainSpec, a dict of lists by loader name.

        Raises:
            ConfigError: If ``return_predictions`` is given with a framework's own code, which collects them itself.
        """
        refuse_unknown(unknown, _PREDICT, "predict()", ConfigError, RUN_ARGUMENTS)
        spec, dataloaders = self._meant(spec, dataloaders, Stage.PREDICT)
        if not isinstance(spec, TrainSpec):
            require_returned(spec, wanted=return_predictions)
            with self._lent(spec):
                return self._code.predict(spec, dataloaders, ckpt_path)
        if self._elsewhere is not None:
            more = {} if return_predictions else {"return_predictions": False}
            return self._evaluate_elsewhere(Stage.PREDICT, spec, dataloaders, ckpt_path, **more)
        with self._evaluating(spec, dataloaders, Stage.PREDICT, ckpt_path) as (run, job):
            with self._tracking.open(self._hub, None), loaders_noted(self._hub) as names:  # for what handlers log
                predictions = run.evaluate(replace(job, keep=return_predictions))
            if not return_predictions:
                return None
            own = predictions if job.device.type == "cpu" else [to_device(one, _CPU) for one in predictions]
            return by_loader(job, own, names)

    def create_trainer(self) -> Any:
        """Build and return the real ``Trainer`` or ``Engine`` for the next run, without running it."""
        if self._elsewhere is not None:
            raise unseen()
        with self._placed() as place:
            self._next = self._build((), place)
        return self._next.native

    # --- saving -------------------------------------------------------------------------------------------------------

    def save_checkpoint(self, path: str | Path, *, sharded: bool = False) -> None:
        """Write a portable checkpoint: immediately after a fit, or from a handler at the end of the current batch.

        Args:
            path: The file. An existing file is replaced once the new one is complete.
            sharded: Whether to make ``path`` a folder into which each process writes its shards.
        """
        if self._last is not None and self._last is self._code.session:
            self._code.save_checkpoint(path, sharded=sharded)
            return
        if Feature.CHECKPOINTS in self._adapter.features:
            self._context("save_checkpoint").save_checkpoint(path, sharded=sharded)
            return
        raise refuse(
            self._adapter,
            Feature.CHECKPOINTS,
            f"save_checkpoint({str(path)!r})",
            "torch.save(model.state_dict(), path)",
        )

    def _evaluate(
        self, spec: Any, dataloaders: Any, stage: Stage, ckpt_path: Any, verbose: bool | None
    ) -> dict[str, float]:
        spec, dataloaders = self._meant(spec, dataloaders, stage)
        if not isinstance(spec, TrainSpec):
            with self._lent(spec):
                return self._code.evaluate(spec, dataloaders, stage, ckpt_path, verbose=verbose)
        found = self._evaluate_spec(spec, dataloaders, stage, ckpt_path)
        if verbose and not self.rank:
            show_metrics(stage.value, found)
        return found

    def _evaluate_spec(self, spec: TrainSpec, dataloaders: Any, stage: Stage, ckpt_path: Any) -> dict[str, float]:
        hparams = plain_hparams(spec.hparams)
        if self._elsewhere is not None:
            found: dict[str, float] = self._evaluate_elsewhere(stage, spec, dataloaders, ckpt_path)
            self._hub.publish(found)
            return found
        with (
            self._evaluating(spec, dataloaders, stage, ckpt_path) as (run, job),
            self._tracking.open(self._hub, hparams),
        ):
            run.evaluate(job)
            self._tracking.log_metrics(self._hub.epoch_metrics)
            return dict(self._hub.epoch_metrics)

    def _evaluate_elsewhere(self, stage: Stage, spec: TrainSpec, data: Any, ckpt_path: Any, **more: Any) -> Any:
        assert self._elsewhere is not None  # noqa: S101 - for the type checker
        self._require(stage, ckpt_path)
        self._callbacks.of(spec.callbacks)
        path = None if ckpt_path is None else self._checkpoint(ckpt_path, spec)
        self._spec = spec
        return self._elsewhere.run(_METHODS[stage], spec=spec, dataloaders=data, ckpt_path=path, **more)

    @contextmanager
    def _evaluating(self, spec: TrainSpec, data: Any, stage: Stage, ckpt_path: Any) -> Iterator[tuple[Run, EvalJob]]:
        self._require(stage, ckpt_path)
        before = self._hub.context
        with (
            preserved_rng(),
            self._placed() as place,
            self._running(spec, data, place) as run,
            eval_job(self.config, self._hub, place, spec=spec, data=data, stage=stage) as job,
            profiled(self.config.profiler, self._hub, Event(f"{stage}_batch_end"), shows=not self.rank),
        ):
            if ckpt_path is not None:
                load_model(self._checkpoint(ckpt_path, spec), spec.model)
            yield run, evaluation_on_the_clock(job)
            self._hub.context = before  # what is saved afterwards is the fit


_CPU = torch.device("cpu")
_FIT = ("spec", "train_dataloaders", "val_dataloaders", "ckpt_path")
_EVALUATE = ("spec", "dataloaders", "ckpt_path", "verbose")
_PREDICT = ("spec", "dataloaders", "ckpt_path", "return_predictions")
_METHODS = {Stage.VAL: "validate", Stage.TEST: "test", Stage.PREDICT: "predict"}
