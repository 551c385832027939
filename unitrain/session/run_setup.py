"""Sets up each run: device, backend, listeners, torch switches and seeds."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from unitrain.backends.features import refuse, require_stage
from unitrain.backends.protocol import Feature, Stage
from unitrain.callbacks import ProgressBar
from unitrain.checkpoint.resume import find_checkpoint
from unitrain.data.datamodules import is_datamodule
from unitrain.data.sources import DataSpec
from unitrain.distributed.launch.process_group import team
from unitrain.errors import ConfigError
from unitrain.interop.foreign_code import busy
from unitrain.loop.device import choose_device, compiled, current_device, torch_switches
from unitrain.run.active_runs import registered, used_alone
from unitrain.session.prepare import Placement
from unitrain.session.run_scope import announce, listening, with_state
from unitrain.session.trainer_controls import TrainerControls
from unitrain.spec import TrainSpec
from unitrain.utilities.rng import seed_everything

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from unitrain.backends.protocol import Run


class RunSetup(TrainerControls):
    """The part of a trainer that sets up a run."""

    _data: tuple[Any, Any, Any]

    def _require(self, stage: Stage | None, ckpt_path: Any) -> None:
        """Refuse what the backend does not support: the stage, where None is the training, or a checkpoint."""
        require_stage(self._adapter, stage)
        if ckpt_path is not None and Feature.CHECKPOINTS not in self._adapter.features:
            way_out = "model.load_state_dict(unitrain.load_weights(path))"
            raise refuse(self._adapter, Feature.CHECKPOINTS, f"ckpt_path={str(ckpt_path)!r}", way_out)

    def _meant(self, spec: Any, dataloaders: Any, stage: Stage) -> tuple[Any, Any]:
        """Return the code and the data to evaluate; by default those of the last run and its fit."""
        spec = self._spec if spec is None else spec
        fitted, train, val = self._data
        if dataloaders is not None or spec is not fitted or not isinstance(spec, TrainSpec):
            return spec, dataloaders
        if stage is Stage.VAL and val is not None:
            return spec, val
        return spec, train if isinstance(train, DataSpec) or is_datamodule(train) else None

    def _checkpoint(self, given: str | Path, spec: TrainSpec) -> Path:
        return find_checkpoint(given, self._callbacks.of(spec.callbacks).own, self._hub.last_checkpoint, self.config)

    @contextmanager
    def _lent(self, code: Any) -> Iterator[None]:
        """Prepare a run of a framework's own code.

        Raises:
            SpecError: If it is not a framework's code; the last run is then unchanged.
            ConfigError: If this trainer is in the middle of a run, or create_trainer() built what would not be used.
        """
        if self._busy:
            raise busy()
        if self._next is not None:
            raise ConfigError(
                f"create_trainer() built a {type(self._next.native).__name__} for a TrainSpec; native code cannot"
                f" run on it.",
                hint="pass native callbacks and handlers to UnifiedTrainer(callbacks=[...]).",
            )
        self._code.open(code)
        try:
            yield
        finally:
            self._last, self._spec = self._code.session, None

    @contextmanager
    def _running(self, spec: TrainSpec, data: Any, place: Placement) -> Iterator[Run]:
        """Set up one run: register callbacks, set torch's switches and the seed, and announce any error once.

        Raises:
            ConfigError: If this trainer is in the middle of a run, or a callback is in use by another run.
        """
        if self._busy or self._code.running:
            raise busy()
        with ExitStack() as stack:
            self._busy = True
            stack.callback(setattr, self, "_busy", False)
            stack.enter_context(registered(fenced=True))
            modes = [(module, module.training) for module in spec.model.modules()]
            self._spec = spec
            own, native = self._callbacks.of(spec.callbacks)
            stack.enter_context(used_alone(with_state(own)))
            self._last = run = self._take(native, place)
            stack.enter_context(run.lent_to(data))
            self._hub.context = None
            self._hub.epoch_metrics = {}
            for callback in own:
                stack.enter_context(listening(self._hub, callback, shows=not self.rank))
            stack.enter_context(torch_switches(self.config))
            stack.enter_context(compiled(spec.model, self.config))
            if self.config.seed is not None:
                seed_everything(self.config.seed + self.rank)
            try:
                yield run
            except BaseException as error:
                known = place.team.failed(error)
                announce(self._hub, known)
                for module, training in modes:
                    module.training = training
                if known is not error:
                    raise known from error
                raise

    def _shows_progress(self, spec: TrainSpec) -> bool:
        given = any(isinstance(callback, ProgressBar) for callback in (*spec.callbacks, *self.config.callbacks))
        return self.config.enable_progress_bar and not given and not self.rank

    def _take(self, native: Sequence[Any], place: Placement) -> Run:
        """Return the run that create_trainer() built, or a new one."""
        run, self._next = self._next, None
        if run is not None and native:
            raise ConfigError(
                f"create_trainer() built the {type(run.native).__name__} before the spec added native callbacks:"
                f" {', '.join(type(callback).__name__ for callback in native)}.",
                hint="pass them to UnifiedTrainer(callbacks=[...]).",
            )
        return run or self._build(native, place)

    def _build(self, native: Sequence[Any], place: Placement) -> Run:
        return self._adapter.build(self.config, place.device, (*native, *self._callbacks.native), place.team)

    @contextmanager
    def _placed(self) -> Iterator[Placement]:
        """Yield the device of this process and the processes that it runs with."""
        device = choose_device(self.config, 0 if self._world is None else self._world.local_rank)
        if device.type != "cpu" and Feature.GPU not in self._adapter.features:
            raise refuse(self._adapter, Feature.GPU, f"accelerator={self.config.accelerator!r}", 'accelerator="cpu".')
        # a process of several keeps its GPU, as `team` sets it: the user's own exchanges after the run need it too
        current = current_device(device) if self._world is None else nullcontext()
        with current, team(self._world, device, self.config.plan) as together:
            yield Placement(device, together)
