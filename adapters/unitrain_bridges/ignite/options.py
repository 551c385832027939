"""Maps trainer options to Ignite programs, and rejects those that do not apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from unitrain.backends.registry import find_adapter
from unitrain.config import UNLIMITED
from unitrain.errors import ConfigError, UnsupportedFeatureError
from unitrain.loggers.preparation import takes_batches
from unitrain.loop.device import choose_device
from unitrain_bridges.ignite.bare import parameters_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from unitrain.backends.protocol import Adapter
    from unitrain.config import TrainerConfig

HOME = "ignite"
_STEP = "the program defines its own step"

REFUSED: dict[str, str] = {
    "min_epochs": "only call engine.terminate() after that many epochs.",
    "max_steps": "from_engine(engine, max_iters=...) counts iterations.",
    "min_steps": "only call engine.terminate() after that many steps.",
    "max_time": "attach ignite.handlers.TimeLimit to the engine.",
    "num_nodes": "an Ignite program runs in one process here; num_nodes=1.",
    "strategy": 'an Ignite program runs in one process here; strategy="auto".',
    "prefetch_to_device": f"{_STEP}, and copies the batch: create_supervised_trainer(..., non_blocking=True).",
    "sync_batchnorm": "convert the model by torch.nn.SyncBatchNorm.convert_sync_batchnorm.",
    "compile": f"{_STEP}: model = torch.compile(model) before it.",
    "precision": f"{_STEP}: with torch.autocast(...): inside it.",
    "accumulate_grad_batches": f"{_STEP}: call optimizer.step() each n-th iteration.",
    "gradient_clip_val": f"{_STEP}: torch.nn.utils.clip_grad_norm_ before optimizer.step().",
    "val_check_interval": "run the evaluator in a handler: Events.ITERATION_COMPLETED(every=n).",
    "check_val_every_n_epoch": "run the evaluator in a handler: Events.EPOCH_COMPLETED(every=n).",
    "limit_val_batches": "evaluator.run(loader, epoch_length=n)",
    "limit_test_batches": "evaluator.run(loader, epoch_length=n)",
    "limit_predict_batches": "evaluator.run(loader, epoch_length=n)",
    "num_sanity_val_steps": "run the evaluator before the trainer: evaluator.run(loader, epoch_length=n).",
    "reload_dataloaders_every_n_epochs": "engine.set_data(loader) in a handler of Events.EPOCH_STARTED.",
    "overfit_batches": "limit_train_batches=n, with a loader that does not shuffle.",
    "loggers": "MetricsClient(logger), or attach Ignite's: TensorboardLogger(...).attach_output_handler(engine, ...).",
    "profiler": "attach ignite.handlers.BasicTimeProfiler to the engine, for a run on Ignite.",
    "log_every_n_steps": "give every=n to the event of the logger's handler.",
}
"""Options of unitrain's own loop, with alternatives; defaults are accepted."""


def check(adapter: Adapter, config: TrainerConfig) -> None:
    """Refuse the arguments that cannot act.

    Args:
        adapter: The backend that runs the program.
        config: The arguments as they were given.

    Raises:
        ConfigError: With the argument, why it cannot act, and a hint.
        UnsupportedFeatureError: If several devices are asked for.
    """
    for name, instead in REFUSED.items():
        if name == "loggers" and all(takes_batches(one) for one in config.loggers):
            continue  # they take an iteration's values, whoever runs it
        if config.changed(name):
            raise ConfigError(f"{name}={getattr(config, name)!r} does not apply to an Ignite program.", hint=instead)
    if config.devices not in (1, "auto") and not (isinstance(config.devices, list) and len(config.devices) == 1):
        raise UnsupportedFeatureError(
            f"devices={config.devices!r}: an Ignite program runs on one device here.",
            hint="devices=1, or describe the training with a TrainSpec.",
        )
    if adapter.name == HOME and config.native and config.native.get(HOME):
        raise ConfigError(
            f"native={{{HOME!r}: ...}} has no effect: the program creates its own engine.", hint="remove it."
        )


class Sorted(NamedTuple):
    """Callbacks by where they go.

    Attributes:
        engine: Ignite handlers, to be attached to the program's engine.
        backend: Those of the backend's own framework, for its Trainer.
    """

    engine: list[Any]
    backend: list[Any]


def sort_callbacks(adapter: Adapter, callbacks: Sequence[Any]) -> Sorted:
    """Return where each callback goes.

    Raises:
        UnsupportedFeatureError: If one belongs to a framework that does not run here.
    """
    attachable = find_adapter(HOME).accepts_callback
    found = Sorted([], [])
    for callback in callbacks:
        if attachable(callback):
            found.engine.append(callback)
        elif adapter.accepts_callback(callback):
            found.backend.append(callback)
        else:
            raise UnsupportedFeatureError(
                f"the callback {type(callback).__name__} belongs neither to Ignite nor to {adapter.name!r},"
                " which runs the program.",
                hint="attach a handler to the engine: engine.add_event_handler(event, handler).",
            )
    return found


def device_of(modules: Mapping[str, nn.Module], config: TrainerConfig) -> torch.device:
    """Return where the program runs: where its modules are.

    Raises:
        ConfigError: If another device was asked for; a program moves its modules itself.
    """
    places = [parameter.device for module in modules.values() for parameter in parameters_in(module)]
    found = next((place for place in places if place.type != "meta"), None)
    if found is None:
        return torch.device("cpu") if config.accelerator == "auto" else choose_device(config)
    if config.accelerator == "auto" and not isinstance(config.devices, list):
        return found
    wanted = choose_device(config)
    if (wanted.type, wanted.index or 0) == (found.type, found.index or 0):
        return found
    raise ConfigError(
        f"accelerator={config.accelerator!r}, devices={config.devices!r} select {wanted}, but the program's modules"
        f" are on {found}, and it moves them itself.",
        hint=f'model.to("{wanted}") in the program, or accelerator="auto".',
    )


def epochs_of(config: TrainerConfig) -> int | None:
    """Return ``max_epochs`` for ``Engine.run``; None leaves it to Ignite."""
    return _ENDLESS if config.max_epochs == UNLIMITED else config.max_epochs


_ENDLESS = 2**62
