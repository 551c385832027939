"""A run in other processes: the job, the work of each process, and the results."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from unitrain.callbacks import prepare
from unitrain.checkpoint import io
from unitrain.checkpoint.restore import restore_result
from unitrain.data.batch import to_device
from unitrain.distributed.launch import job_files
from unitrain.distributed.launch.job_files import Job
from unitrain.distributed.launch.processes import launched, membership, starts
from unitrain.errors import ConfigError
from unitrain.loop.precision import convert_model
from unitrain.optim.optimizers import build_optimizers
from unitrain.run.active_runs import used_alone
from unitrain.session.run_scope import with_state
from unitrain.utilities.files import user_path
from unitrain.utilities.rng import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer

    from unitrain.backends.protocol import Adapter
    from unitrain.callbacks import Callback, PredictionWriter, StochasticWeightAveraging
    from unitrain.config import TrainerConfig
    from unitrain.distributed.world import World
    from unitrain.run.context import RunContext
    from unitrain.run.hub import EventHub
    from unitrain.run.result import FitResult

_CHECKPOINT = "result.ckpt"


@dataclass(frozen=True)
class Elsewhere:
    """The processes in which a trainer runs, started anew for each run.

    Attributes:
        count: Number of processes.
        make: Class of the trainer, which creates it there.
        framework: The backend.
        config: How to train.
        hub: The hub whose handlers are sent, and which gets the counters back.
        launch: Runs a job in the given number of processes, and yields the folder with their results.
    """

    count: int
    make: Callable[..., Any]
    framework: Adapter
    config: TrainerConfig
    hub: EventHub
    launch: Callable[[int, Job], AbstractContextManager[Path]]

    def run(self, method: str, **arguments: Any) -> Any:
        """Return the result of ``method`` of the trainer there."""
        callbacks, order = (*arguments["spec"].callbacks, *self.config.callbacks), self._order(method, arguments)
        with used_alone(with_state(callbacks)), self.launch(self.count, order) as folder:
            answer = job_files.read_result(folder)
            self.hub.state.tensors.update(answer.tensors)
            for writer, known in zip(_writers(callbacks), answer.writers, strict=False):
                vars(writer).update(known)
            return answer.value

    def fit(self, callbacks: Mapping[str, Callback], **arguments: Any) -> tuple[FitResult, dict[str, Optimizer]]:
        """Fit there; then update the weights, counters and callbacks of this process.

        Args:
            callbacks: This process's callbacks, by the name of their state in a checkpoint.
            **arguments: The arguments of ``UnifiedTrainer.fit``.

        Returns:
            The result, and the optimizers.
        """
        spec = arguments["spec"]
        order = self._order("fit", arguments)
        with used_alone(with_state(callbacks.values())), self.launch(self.count, order) as folder:
            answer = job_files.read_result(folder)
            content = io.read(folder / _CHECKPOINT)
        convert_model(spec.model, self.config.precision)
        optimizers = build_optimizers(spec)
        prepare(callbacks.values(), spec, self.config, optimizers)
        self.hub.begin()
        restore_result(content, spec.model, optimizers, self.hub, callbacks)
        averaging = _averaging(callbacks.values())
        if averaging is not None:
            spec.model.load_state_dict(answer.averaged[0])
            averaging.load_state_dict(answer.averaged[1])
        self.hub.last_checkpoint, self.hub.profile = answer.value.last_checkpoint, answer.value.profile
        self.hub.context = cast("RunContext", _Finished(content))
        for own, used in zip(self.config.loggers, answer.loggers, strict=True):
            vars(own).update(vars(used))  # where it wrote, under which identity
        return answer.value, optimizers

    def _order(self, method: str, arguments: Mapping[str, Any]) -> Job:
        seed = self.config.seed
        return Job(
            make=self.make,
            framework=self.framework,
            options={one.name: getattr(self.config, one.name) for one in fields(self.config)},
            handlers=tuple(self.hub.registered()),
            method=method,
            arguments=arguments,
            seed=int(torch.randint(2**31, ())) if seed is None else seed,
            threads=max(1, torch.get_num_threads() // self.count),
        )


def elsewhere(
    make: Callable[..., Any], framework: Adapter, config: TrainerConfig, world: World | None, hub: EventHub
) -> Elsewhere | None:
    """Return the processes in which a trainer runs; None if it runs in this one."""
    count = starts(config, world)
    return Elsewhere(count, make, framework, config, hub, partial(launched, member=_member)) if count else None


def unseen() -> ConfigError:
    """Return the error for requesting a native object that no run will use."""
    return ConfigError(
        "create_trainer() would build an object in this process, but the run happens in other processes.",
        hint="pass callbacks to UnifiedTrainer(callbacks=[...]), or start the script with torchrun.",
    )


class _Finished:
    """A finished remote run, which can only be saved."""

    at_rest = True

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def save_checkpoint(self, path: str | Path, *, sharded: bool = False) -> None:
        if sharded:
            raise ConfigError(
                "the processes that held the shards have exited.",
                hint="run.save_checkpoint(path, sharded=True) in a handler.",
            )
        io.write(user_path(path), self._content)


@dataclass(frozen=True)
class _Answer:
    value: Any
    loggers: tuple[Any, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    averaged: Any = None
    writers: tuple[dict[str, Any], ...] = ()


def _writers(callbacks: Iterable[Any]) -> list[PredictionWriter]:
    from unitrain.callbacks.prediction_writer import PredictionWriter  # noqa: PLC0415 - as below

    return [one for one in callbacks if isinstance(one, PredictionWriter)]


def _averaging(callbacks: Iterable[Any]) -> StochasticWeightAveraging | None:
    """Return the callback that replaced the weights; a checkpoint of an interrupted run contains the earlier ones."""
    from unitrain.callbacks.swa import StochasticWeightAveraging  # noqa: PLC0415 - only who asks for it pays for it

    return next((one for one in callbacks if isinstance(one, StochasticWeightAveraging)), None)


def _member(name: str) -> None:
    with membership(name) as (folder, order):
        work(folder, order)


def work(folder: Path, order: Job, dumps: Callable[[Any], bytes] = pickle.dumps) -> Any:
    """Run the job as one of the processes; rank 0 writes the result to ``folder``.

    Args:
        folder: Folder for the result.
        order: The job.
        dumps: Serializes the result.

    Returns:
        The result of the trainer's method in this process.
    """
    trainer = order.make(order.framework, **order.options)
    for trigger, handler in order.handlers:
        trainer.on(trigger, handler)
    seed_everything(order.seed + trainer.rank)
    method = partial(_fitted, trainer) if order.method == "fit" else getattr(trainer, order.method)
    value = method(**order.arguments)
    averaged = None
    if order.method == "fit":
        spec = order.arguments["spec"]
        averaging = _averaging((*spec.callbacks, *trainer.config.callbacks))
        if averaging is not None:
            averaged = to_device((spec.model.state_dict(), averaging.state_dict()), torch.device("cpu"))
        trainer.save_checkpoint(folder / _CHECKPOINT)
        value = copy.copy(value)  # without the engine
    if trainer.rank == 0:
        writers = _writers((*order.arguments["spec"].callbacks, *trainer.config.callbacks))
        known = tuple(one.known() for one in writers)
        job_files.write_result(
            folder, _Answer(value, trainer.config.loggers, trainer.state.tensors, averaged, known), dumps
        )
    return value


def _fitted(trainer: Any, spec: Any, train_dataloaders: Any, val_dataloaders: Any, ckpt_path: Any) -> Any:
    """Return the result of a fit, even if it was pruned: the caller's process raises TrialPruned."""
    return trainer._fit(spec, (train_dataloaders, val_dataloaders), ckpt_path)  # noqa: SLF001 - see above
