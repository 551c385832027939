"""Refuses features that a run needs and a backend does not declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import unitrain.callbacks
from unitrain.backends.protocol import Feature, Stage
from unitrain.backends.registry import adapter_names, find_adapter
from unitrain.callbacks import Callback
from unitrain.distributed.options import FSDP
from unitrain.errors import SpecError, UnitrainError, UnsupportedFeatureError
from unitrain.utilities.plugins import BRIDGES, entries, packages_of

if TYPE_CHECKING:
    from unitrain.backends.protocol import Adapter
    from unitrain.config import TrainerConfig
    from unitrain.spec import TrainSpec


class Request(NamedTuple):
    """An option that asks for a feature.

    Attributes:
        feature: The requested feature.
        asked: Returns whether a config requests it.
        instead: The alternative if it is not supported.
    """

    feature: Feature
    asked: Callable[[TrainerConfig], bool]
    instead: str


def _changed(option: str) -> Callable[[TrainerConfig], bool]:
    return lambda config: config.changed(option)


def _several(config: TrainerConfig) -> bool:
    return not (config.devices == 1 or (isinstance(config.devices, list) and len(config.devices) == 1))


REQUESTS: dict[str, Request] = {
    "devices": Request(Feature.DEVICES, _several, "devices=1, or [index] for a specific device."),
    "num_nodes": Request(Feature.DEVICES, _changed("num_nodes"), "num_nodes=1."),
    "strategy": Request(Feature.DEVICES, _changed("strategy"), 'strategy="auto".'),
    "sync_batchnorm": Request(Feature.DEVICES, _changed("sync_batchnorm"), "sync_batchnorm=False."),
    "num_sanity_val_steps": Request(Feature.EVALUATION, _changed("num_sanity_val_steps"), "num_sanity_val_steps=None."),
    "precision": Request(Feature.PRECISION, _changed("precision"), 'precision="32-true".'),
    "compile": Request(Feature.COMPILE, _changed("compile"), "give TrainSpec(model=torch.compile(model))."),
    "loggers": Request(Feature.TRACKERS, _changed("loggers"), "read FitResult.history, or handle Event.EPOCH_END."),
    "log_every_n_steps": Request(
        Feature.TRACKERS, _changed("log_every_n_steps"), "handle Event.OPTIMIZER_STEP(every=n)."
    ),
    "accumulate_grad_batches": Request(
        Feature.ACCUMULATION, _changed("accumulate_grad_batches"), "accumulate_grad_batches=1."
    ),
    "gradient_clip_val": Request(Feature.CLIPPING, _changed("gradient_clip_val"), "gradient_clip_val=None."),
}


def refuse(adapter: Adapter, feature: Feature, what: str, instead: str | None = None) -> UnsupportedFeatureError:
    """Return the error for something that ``adapter`` does not support; by default it names a backend that does."""
    hint = _elsewhere(adapter, feature) if instead is None else instead
    return UnsupportedFeatureError(f"{what} is not supported by {adapter.name!r} ({feature.value}).", hint=hint)


def _elsewhere(adapter: Adapter, feature: Feature) -> str:
    for name in adapter_names():
        with suppress(UnitrainError):  # a backend whose framework is not installed
            if name != adapter.name and feature in find_adapter(name).features:
                return f"framework={name!r} supports it."
    return "choose another framework."


def require_config(adapter: Adapter, config: TrainerConfig) -> None:
    """Refuse what ``adapter`` does not support of ``config``.

    Raises:
        UnsupportedFeatureError: If an option is not supported; the hint names an alternative.
    """
    for option, request in REQUESTS.items():
        if request.feature not in adapter.features and request.asked(config):
            raise refuse(adapter, request.feature, f"{option}={getattr(config, option)!r}", request.instead)
    if isinstance(config.plan, FSDP) and Feature.SHARDING not in adapter.features:
        raise refuse(adapter, Feature.SHARDING, f"strategy={config.strategy!r}", 'strategy="ddp".')
    own = config.native.get(adapter.name) if isinstance(config.native, Mapping) else None
    if own and Feature.NATIVE_ARGUMENTS not in adapter.features:
        raise refuse(adapter, Feature.NATIVE_ARGUMENTS, f"native={{{adapter.name!r}: ...}}", "remove it.")


def require_spec(adapter: Adapter, spec: TrainSpec, *, closure: bool) -> None:
    """Refuse what ``adapter`` does not support of ``spec``.

    Args:
        adapter: The backend.
        spec: The spec to train.
        closure: Whether its optimizer needs a closure.

    Raises:
        UnsupportedFeatureError: If a feature is not supported; the hint names an alternative.
    """
    if not spec.automatic_optimization and Feature.MANUAL_OPTIMIZATION not in adapter.features:
        raise refuse(adapter, Feature.MANUAL_OPTIMIZATION, "automatic_optimization=False")
    if closure and Feature.CLOSURE_OPTIMIZERS not in adapter.features:
        raise refuse(adapter, Feature.CLOSURE_OPTIMIZERS, "the optimizer", "use an optimizer without a closure.")


_METHODS: dict[Stage | None, tuple[Feature, str, str | None]] = {
    None: (Feature.TRAINING, "fit()", None),
    Stage.VAL: (Feature.EVALUATION, "validate()", None),
    Stage.TEST: (Feature.EVALUATION, "test()", None),
    Stage.PREDICT: (Feature.PREDICTION, "predict()", "call the model under torch.no_grad()."),
}


def require_stage(adapter: Adapter, stage: Stage | None) -> None:
    """Refuse a method of the trainer that ``adapter`` does not support.

    Args:
        adapter: The backend.
        stage: The evaluation; None is the training.

    Raises:
        UnsupportedFeatureError: If the method is not supported; the hint names an alternative.
    """
    feature, method, instead = _METHODS[stage]
    if feature not in adapter.features:
        raise refuse(adapter, feature, method, instead)


class Sorted(NamedTuple):
    """Callbacks sorted by owner.

    Attributes:
        own: unitrain's callbacks.
        native: Callbacks of the backend's framework.
        foreign: Callbacks of another framework.
    """

    own: list[Callback]
    native: list[Any]
    foreign: list[Any]


def sorted_callbacks(
    adapter: Adapter, callbacks: Sequence[Any], takes: Callable[[Any], bool] = lambda _: False
) -> Sorted:
    """Return the callbacks sorted by owner, as seen from ``adapter``.

    Args:
        adapter: The backend.
        callbacks: The given callbacks.
        takes: Returns whether another framework accepts an object whose classes do not tell.

    Raises:
        SpecError: If one is not a callback, or cannot be attached without further arguments.
    """
    found = Sorted([], [], [])
    for callback in callbacks:
        if isinstance(callback, Callback):
            found.own.append(callback)
        elif Feature.NATIVE_CALLBACKS in adapter.features and adapter.accepts_callback(callback):
            found.native.append(callback)
        elif _package(callback) not in adapter.packages and (_package(callback) in entries(BRIDGES) or takes(callback)):
            found.foreign.append(callback)
        else:
            raise _no_callback(adapter, callback)
    return found


def foreign(adapter: Adapter, callback: object) -> UnsupportedFeatureError:
    """Return the error for a callback of another framework."""
    what = f"the callback {type(callback).__name__} of {_package(callback)}"
    return refuse(adapter, Feature.NATIVE_CALLBACKS, what, _own(callback) or _INSTEAD)


_INSTEAD = "subclass unitrain.Callback, or use trainer.on(event, handler)."


def _own(callback: object) -> str | None:
    """Return a hint at unitrain's counterpart, if there is one, such as TerminateOnNaN for Ignite's."""
    if _package(callback) == "optuna_integration":
        return 'unitrain.Pruning(trial, "val/loss"), which works on every backend.'
    name = type(callback).__name__.lower()
    own = next((one for one in unitrain.callbacks.__all__ if one.lower() == name), None)
    return None if own is None else f"unitrain.{own}, which works on every backend."


def _package(callback: object) -> str:
    """Return the framework that one of the object's classes comes from, or the object's own package."""
    packages, known = packages_of(type(callback)), entries(BRIDGES)
    return next((package for package in packages if package in known), packages[0])


def _no_callback(adapter: Adapter, callback: object) -> UnitrainError:
    name = getattr(callback, "__name__", type(callback).__name__)
    if _package(callback) in adapter.packages and Feature.NATIVE_CALLBACKS in adapter.features:
        return SpecError(
            f"{name} of {_package(callback)} cannot be attached without further arguments.",
            hint=_own(callback) or "attach it to the object that trainer.create_trainer() returns.",
        )
    hint = f"create an instance first: {name}(...)." if isinstance(callback, type) else _own(callback) or _INSTEAD
    if callable(getattr(callback, "log_metrics", None)):
        hint = f"pass trackers to loggers=[{name}(...)]."
    return SpecError(f"a callback must be a unitrain.Callback or a native one; got {callback!r}.", hint=hint)
