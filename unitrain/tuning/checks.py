"""Checks the arguments of a study before the first trial."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from unitrain.backends.registry import find_trackers
from unitrain.config import TrainerConfig
from unitrain.distributed.launch.process_group import wanted
from unitrain.distributed.world import world_here
from unitrain.errors import ConfigError, DataError
from unitrain.trainer import UnifiedTrainer
from unitrain.tuning.arguments import require_options, whole
from unitrain.tuning.leases import require_leasable
from unitrain.tuning.plan import BEST, LAST, MAXIMIZE, MINIMIZE, StudyPlan
from unitrain.tuning.samplers import is_object, require_pruner, require_sampler
from unitrain.tuning.workers.executors import PROCESSES, executor_of, require_executor


def require_valid(plan: StudyPlan, workers: int, timeout: Any, executor: str = PROCESSES) -> None:
    """Refuse invalid arguments before a study is created.

    Raises:
        ConfigError: If an argument is invalid.
    """
    for check in (_functions, _numbers, _names, _data, _trainer):
        check(plan)
    require_leasable(plan.address)
    require_sampler(plan.sampler, plan.n_trials)
    require_pruner(plan.pruner, len(plan.monitor))
    require_executor(executor)
    _workers(plan, workers, executor)
    _timeout(timeout)


def _functions(plan: StudyPlan) -> None:
    if not callable(plan.make_spec) or inspect.isclass(plan.make_spec):
        raise ConfigError(
            f"tune() takes a function that returns the spec of a trial; got {type(plan.make_spec).__name__}.",
            hint="def make_spec(trial): return TrainSpec(...)",
        )
    for one in plan.catch:
        if not (inspect.isclass(one) and issubclass(one, Exception)):
            raise ConfigError(f"tune(catch=) takes classes of errors; got {one!r}.", hint="catch=(RuntimeError,)")


def _numbers(plan: StudyPlan) -> None:
    for name, least in (("n_trials", 1), ("seed", 0), ("parallel", 1), ("retries", 0)):
        given = getattr(plan, name)
        if not (name == "n_trials" and given is None):
            whole(name, given, least)
    if plan.n_trials is not None and len(plan.warm_start) > plan.n_trials:
        raise ConfigError(
            f"warm_start= has {len(plan.warm_start)} trials, more than n_trials={plan.n_trials}.",
            hint=f"n_trials={len(plan.warm_start)} or more.",
        )


def _names(plan: StudyPlan) -> None:
    for one in plan.directions:
        if one not in (MINIMIZE, MAXIMIZE):
            raise ConfigError(f"tune(direction={one!r}) is unknown.", hint='"minimize" or "maximize"')
    if len(plan.directions) != len(plan.monitor):
        raise ConfigError(
            f"monitor= has {len(plan.monitor)} objectives, direction= has {len(plan.directions)}.",
            hint='monitor=["val/loss", "val/acc"], direction=["minimize", "maximize"]',
        )
    if plan.value not in (LAST, BEST):
        raise ConfigError(f"tune(value={plan.value!r}) is unknown.", hint='value="last" or value="best"')
    if plan.value == BEST and len(plan.monitor) > 1:
        raise ConfigError('value="best" needs one objective.', hint='value="last"')
    for params in plan.warm_start:
        if not isinstance(params, Mapping):
            raise ConfigError(
                f"warm_start= takes parameters as dicts; got {params!r}.", hint='warm_start=[{"lr": 0.1}]'
            )


def _data(plan: StudyPlan) -> None:
    if plan.val is None and plan.train is not None and not _has_val(plan.train):
        missing = [name for name in plan.monitor if name.startswith("val/")]
        if missing:
            raise ConfigError(f"monitor={missing[0]!r} needs validation data.", hint="tune(make_spec, train, val, ...)")
    for name, data in (("train", plan.train), ("val", plan.val)):
        if isinstance(data, Iterator):
            raise DataError(
                f"{name} is an iterator, which the first trial would use up.",
                hint="a DataLoader, a list, or a function of the trial.",
            )


def _has_val(data: Any) -> bool:
    return callable(data) or getattr(data, "val", None) is not None or hasattr(data, "val_dataloader")


def _trainer(plan: StudyPlan) -> None:
    if callable(plan.trainer):
        return
    if not isinstance(plan.trainer, Mapping):
        raise ConfigError(
            f"tune(trainer=) takes options of UnifiedTrainer as a dict, or a function of the trial; got"
            f" {plan.trainer!r}.",
            hint='trainer={"max_epochs": 10}',
        )
    require_options(plan.trainer)
    if not callable(plan.framework):
        UnifiedTrainer(plan.framework, **{"enable_progress_bar": False, **plan.trainer})


def _workers(plan: StudyPlan, workers: int, executor: str) -> None:
    whole("workers", workers, 1)
    if (workers > 1 or executor != PROCESSES) and plan.address.url is None:
        what = f"workers={workers} need" if executor == PROCESSES else f"executor={executor!r} needs"
        raise ConfigError(
            f"{what} a storage that several processes reach; this study is in memory.",
            hint='storage="journal:///study.log", study_name="mine"',
        )
    if workers > 1 and is_object(plan.sampler):
        raise ConfigError(
            f"sampler= is a single object, whose state other workers cannot see; got workers={workers}.",
            hint='a name such as "tpe", or a function: sampler=lambda seed: optuna.samplers.TPESampler(seed=seed)',
        )
    if workers > 1 or executor != PROCESSES:
        executor_of(executor).packed(plan)
    world = world_here()
    if world is not None:
        raise ConfigError(
            f"tune() must run in a single process, but {world.launcher} started {world.size}.",
            hint='trainer={"devices": 2} starts the processes of a trial.',
        )
    gpus = devices_of(plan) * workers
    if executor == PROCESSES and gpus > torch.cuda.device_count():
        raise ConfigError(
            f"{workers} workers with {devices_of(plan)} GPUs each need {gpus}; there are {torch.cuda.device_count()}.",
            hint="fewer workers=, or fewer devices.",
        )


def devices_of(plan: StudyPlan) -> int:
    """Return how many GPUs a trial uses; 0 if it uses none, or if a function of the trial decides."""
    if callable(plan.trainer):
        return 0
    given = dict(plan.trainer)
    if "loggers" in given:
        given["loggers"] = find_trackers(given["loggers"])
    config = TrainerConfig(**given).resolved()
    on_gpu = config.accelerator in ("cuda", "gpu") or (config.accelerator == "auto" and torch.cuda.is_available())
    return wanted(config) if on_gpu else 0


def _timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= threading.TIMEOUT_MAX:
        raise ConfigError(f"tune(timeout=) must be a number of seconds above 0; got {timeout!r}.", hint="timeout=3600")
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("tune(timeout=) only works in the main thread.", hint="call tune() there.")
