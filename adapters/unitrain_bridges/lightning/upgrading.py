"""Upgrades LightningModules of 1.x to 2.x: removed hooks are called as in 1.x.

A subclass adds the current hooks, which call the old ones. A class between the user's class and LightningModule
receives the arguments that old hooks pass to ``super()``, and drops those that 2.x does not have.
"""

# ruff: noqa: ARG001 - the parameters are those by which 1.x called

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from unitrain.compat.differences import difference
from unitrain.errors import ConfigError
from unitrain_lightning.removed_hooks import BY_HAND, EPOCH_ENDS, GONE, PARAMETERS, RENAMES, EpochEnd

if TYPE_CHECKING:
    from collections.abc import Mapping

Hook: TypeAlias = Callable[..., Any]
Hooks: TypeAlias = dict[str, Any]

_BASE = "LightningModule"
_INDEX_AT = {"optimizer_step": 3, "lr_scheduler_step": 1, "configure_gradient_clipping": 1}
"""The position of ``optimizer_idx`` in these hooks, without ``self``."""

_STEP_ENDS = ("training_step", "validation_step", "test_step")
_EVERY_STAGE = {"on_epoch_start": "on_{}_epoch_start", "on_epoch_end": "on_{}_epoch_end"}
_STAGES = ("train", "validation", "test")
REVIVED = "_hooks_called_by_upgrade"
"""The attribute of an upgraded class that names the renamed hooks that it calls."""
_RENAMED = (*_EVERY_STAGE, "on_pretrain_routine_start")
_MANUAL = "self.automatic_optimization = False, and step each optimizer of self.optimizers() by hand."
_REFUSED = {
    **dict.fromkeys(BY_HAND, "its successor is called at another time: rewrite it."),
    "tbptt_split_batch": "split the batch in training_step, with manual optimization.",
    "get_progress_bar_dict": "ProgressBar.get_metrics of a callback.",
}


def upgraded(code: Any) -> Any:
    """Return a module's class as one of 2.x, or the module itself, which is of such a class from then on.

    Raises:
        ConfigError: If it needs what 2.x has no counterpart of; the module is left unchanged.
    """
    if isinstance(code, type):
        return _class(code)
    code.__class__ = _class(type(code))
    return code


def unchanged(code: Any) -> Any:
    """Return a module of 2.x unchanged.

    Raises:
        ConfigError: If it has hooks that 2.0 removed.
    """
    cls = code if isinstance(code, type) else type(code)
    old = [name for name in (*EPOCH_ENDS, *RENAMES) if hasattr(cls, name)]
    if old:
        raise ConfigError(f"{cls.__name__} has {', '.join(old)}, which 2.0 removed.", hint='upgrade(module, "1.x")')
    return code


@difference(
    "pytorch-lightning", since="2.0", drop="2.0", link="https://lightning.ai/docs/pytorch/stable/upgrade/from_1_9.html"
)
def _calls_old_hooks(base: type) -> bool:
    """Return whether the installed Lightning calls the hooks of 1.x itself."""
    return any(hasattr(base, name) for name in EPOCH_ENDS)


def _class(cls: type) -> type:
    base = next(one for one in cls.__mro__ if one.__name__ == _BASE)
    if _calls_old_hooks(base):
        return cls
    _refuse(cls)
    hooks: Hooks = {}
    for make in (_with_old_parameters, _with_step_ends, _with_renamed, _with_epoch_ends):
        hooks |= make(cls, hooks)
    if not hooks:
        return cls
    said = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, REVIVED: _RENAMED}
    hidden = dict.fromkeys(EPOCH_ENDS, _Hidden())
    return type(cls.__name__, (cls, type(_BASE, (base,), _for_super(base))), {**hooks, **hidden, **said})


def _refuse(cls: type) -> None:
    for name, fix in _REFUSED.items():
        if hasattr(cls, name):
            raise ConfigError(f"{cls.__name__}.{name} has no equivalent in Lightning 2.x.", hint=fix)
    for name in ("training_step", "training_step_end", "backward"):
        given = _names(getattr(cls, name, None))
        if "optimizer_idx" in given:
            raise ConfigError(
                f"{cls.__name__}.{name} takes optimizer_idx, but 2.x does not call a step per optimizer.", hint=_MANUAL
            )


def _parameters(function: Hook | None) -> list[inspect.Parameter]:
    """Return the parameters of a method that can be given by position, without ``self``."""
    if function is None:
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one for one in inspect.signature(function).parameters.values() if one.kind in kinds][1:]


def _names(function: Hook | None) -> list[str]:
    return [one.name for one in _parameters(function)]


def _needed(function: Hook | None) -> list[str]:
    """Return the names of the parameters that have no default."""
    return [one.name for one in _parameters(function) if one.default is inspect.Parameter.empty]


def _of(cls: type, hooks: Mapping[str, Hook], name: str) -> Hook:
    """Return the current hook: the generated one, or the class's own, or a no-op."""
    found: Hook = hooks[name] if name in hooks else getattr(cls, name, _nothing)
    return found


def _nothing(self: Any, *_: Any, **__: Any) -> None:
    """Do nothing."""


# --- parameters -------------------------------------------------------------------------------------------------------


def _with_old_parameters(cls: type, hooks: Hooks) -> Hooks:
    """Return hooks that pass the old hooks their removed arguments: index 0, and all switches off."""
    made: Hooks = {}
    for name, position in _INDEX_AT.items():
        given = _names(getattr(cls, name, None))
        if set(GONE) & set(given):
            made[name] = _indexed(getattr(cls, name), position, [one for one in GONE[1:] if one in given])
    for name, count in PARAMETERS.items():
        own = getattr(cls, name, None)
        more = len(_needed(own)) - count
        if own is not None and more > 0:
            made[name] = _padded(own, count, more)
    for stage in (*_STAGES[1:], "predict"):
        for when, wrap in (("start", _started), ("end", _left)):
            own = getattr(cls, f"on_{stage}_batch_{when}", None)
            if "dataloader_idx" in _needed(own):
                made[f"on_{stage}_batch_{when}"] = wrap(own)
    return made


def _started(own: Any) -> Hook:
    """Return a hook that needs no number of a loader, as 2.x wants it where there is one loader."""

    def hook(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        own(self, batch, batch_idx, dataloader_idx)

    return hook


def _left(own: Any) -> Hook:
    def hook(self: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        own(self, outputs, batch, batch_idx, dataloader_idx)

    return hook


def _indexed(own: Hook, position: int, switches: list[str]) -> Hook:
    @wraps(own)
    def hook(self: Any, *given: Any, **named: Any) -> Any:
        off = dict.fromkeys(switches, False)
        return own(self, *given[:position], 0, *given[position:], **named, **off)

    return hook


def _padded(own: Hook, count: int, more: int) -> Hook:
    @wraps(own)
    def hook(self: Any, *given: Any) -> Any:
        return own(self, *given, *([0] * (count + more - len(given))))

    return hook


def _for_super(base: Any) -> Hooks:
    """Return the class that accepts ``super()`` calls as in 1.x, and calls LightningModule as in 2.x."""

    def optimizer_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, *given: Any, **named: Any) -> Any:
        closures = [one for one in (*given, named.get("optimizer_closure")) if callable(one)]
        return base.optimizer_step(self, epoch, batch_idx, optimizer, *closures)

    def lr_scheduler_step(self: Any, scheduler: Any, *given: Any, **named: Any) -> Any:
        return base.lr_scheduler_step(self, scheduler, named.get("metric", given[-1] if given else None))

    def configure_gradient_clipping(self: Any, optimizer: Any, *given: Any, **named: Any) -> Any:
        values = {name: value for name, value in named.items() if name not in GONE}
        after = given if "optimizer_idx" in named else given[1:]
        return base.configure_gradient_clipping(self, optimizer, *after, **values)

    def trimmed(name: str, count: int) -> Hook:
        return lambda self, *given: getattr(base, name)(self, *given[:count])

    return {
        **{name: trimmed(name, count) for name, count in PARAMETERS.items()},
        **dict.fromkeys((*EPOCH_ENDS, *_RENAMED), _nothing),
        "optimizer_step": optimizer_step,
        "lr_scheduler_step": lr_scheduler_step,
        "configure_gradient_clipping": configure_gradient_clipping,
        "__module__": base.__module__,
    }


# --- hooks ------------------------------------------------------------------------------------------------------------


def _with_step_ends(cls: type, hooks: Hooks) -> Hooks:
    """Return steps that hand their result to ``..._step_end``, whose own result counts unless it is None."""
    return {
        name: _ended(_of(cls, hooks, name), getattr(cls, f"{name}_end"))
        for name in _STEP_ENDS
        if hasattr(cls, f"{name}_end") and hasattr(cls, name)
    }


def _ended(step: Hook, end: Hook) -> Hook:
    @wraps(step)
    def hook(self: Any, *given: Any, **named: Any) -> Any:
        first = step(self, *given, **named)
        last = end(self, first)
        return first if last is None else last

    return hook


def _with_renamed(cls: type, hooks: Hooks) -> Hooks:
    """Return the hooks that took over from ``on_epoch_start`` and its kind; 1.x called those first, or last."""
    made: Hooks = {}
    for old, template in _EVERY_STAGE.items():
        if hasattr(cls, old):
            for stage in _STAGES:
                name = template.format(stage)
                pair = [getattr(cls, old), _of(cls, hooks, name)]
                made[name] = _both(*(pair if old.endswith("start") else reversed(pair)))
    name = RENAMES["on_pretrain_routine_start"]
    if hasattr(cls, "on_pretrain_routine_start"):
        made[name] = _both(_of(cls, hooks, name), cls.on_pretrain_routine_start)
    return made


def _both(first: Hook, second: Hook) -> Hook:
    def hook(self: Any) -> None:
        first(self)
        second(self)

    return hook


class _Hidden:
    """Stands for a hook that 2.x refuses to see."""

    def __get__(self, instance: Any, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__} no longer has this hook")


def _with_epoch_ends(cls: type, hooks: Hooks) -> Hooks:
    made: Hooks = {}
    for name, end in EPOCH_ENDS.items():
        if hasattr(cls, name):
            made |= _collecting(cls, hooks, getattr(cls, name), end)
    return made


def _collecting(cls: type, hooks: Hooks, own: Hook, end: EpochEnd) -> Hooks:
    """Return the hooks that keep a stage's outputs, and hand them to ``own`` before the epoch's other end."""
    names = [f"on_{end.hook}_{when}" for when in ("epoch_start", "batch_end", "epoch_end")]
    start, after, last = (_of(cls, hooks, name) for name in names)

    def epoch_start(self: Any) -> None:
        setattr(self, end.outputs, {})
        start(self)

    def batch_end(self: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        after(self, outputs, batch, batch_idx, *([dataloader_idx] if "dataloader_idx" in _names(after) else []))
        if outputs is not None if end.keeps_empty else outputs:
            getattr(self, end.outputs).setdefault(dataloader_idx, []).append(outputs)

    def epoch_end(self: Any) -> None:
        kept: dict[int, list[Any]] = getattr(self, end.outputs)
        setattr(self, end.outputs, {})
        loaders = [kept.get(number, []) for number in range(max(kept, default=0) + 1)]
        if kept or end.keeps_empty:
            own(self, loaders if len(loaders) > 1 else loaders[0])
        last(self)

    return dict(zip(names, (epoch_start, batch_end, epoch_end), strict=True))
