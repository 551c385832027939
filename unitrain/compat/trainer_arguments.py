"""Arguments that Lightning's Trainer renamed or removed, and UnifiedTrainer's equivalents.

For the refusal of an old spelling, which names the new one, and for ``upgrade()`` of a config. What needs no look at a
value is a row of ``old_arguments``, which the codemod reads too; a test compares the names of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from unitrain.compat.differences import difference
from unitrain.compat.old_arguments import REMOVED, RENAMED, Removed
from unitrain.compat.other_names import options_for


class Now(NamedTuple):
    """The current equivalent of an old argument.

    Attributes:
        options: Options of UnifiedTrainer; empty if the argument was removed.
        by_hand: Instructions for the user, where no option is equivalent.
        reason: Why it was removed.
    """

    options: Mapping[str, Any] = {}
    by_hand: str = ""
    reason: str = ""

    @property
    def hint(self) -> str:
        """The current spelling."""
        new = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return self.by_hand or new or f"remove it: {self.reason}."


Upgrade: TypeAlias = Callable[[Any], Now]

_DEFAULT = "this is the default"


def _to(name: str) -> Upgrade:
    return lambda value: Now({name: value})


def _gone(reason: str) -> Upgrade:
    return lambda _: Now(reason=reason)


def _removed(row: Removed) -> Upgrade:
    def upgrade(value: Any) -> Now:
        if row.loses_nothing(value):
            return Now(reason=_DEFAULT if row.defaults else row.reason_here or row.reason)
        return Now(by_hand=row.here)

    return upgrade


def _switch(**options: Any) -> Upgrade:
    """Return the upgrade of an argument that means ``options`` if it is True."""
    return lambda value: Now(options) if value else Now(reason=_DEFAULT)


def _gpus(value: Any) -> Now:
    if value in (0, None, False, "", [], "0"):
        return Now({"accelerator": "cpu"})
    if not isinstance(value, str) or "," not in value:
        return Now({"accelerator": "gpu", "devices": value})
    indices = [one.strip() for one in value.split(",") if one.strip()]
    if not all(one.isdigit() for one in indices):
        return Now(by_hand="accelerator='gpu', devices=[0, 1]: their indices.")
    return Now({"accelerator": "gpu", "devices": [int(one) for one in indices]})


def _processes(value: Any) -> Now:
    return Now({"accelerator": "cpu", "devices": value}) if value else Now(reason=_DEFAULT)


_STRATEGIES = {
    "ddp": Now({"strategy": "ddp"}),
    "ddp_spawn": Now({"strategy": "ddp"}),
    "ddp_find_unused_parameters_false": Now({"strategy": "ddp"}),
    "fsdp_native": Now({"strategy": "fsdp"}),
    "ddp_cpu": Now({"accelerator": "cpu", "strategy": "ddp"}),
    "dp": Now(by_hand='strategy="ddp", with a batch size for one device: dp was removed in 2.0.'),
    "ddp2": Now(by_hand='strategy="ddp": ddp2 was removed in 2.0.'),
    "horovod": Now(by_hand='strategy="ddp": horovod was removed in 2.0.'),
}


def _backend(value: Any) -> Now:
    return Now(reason=_DEFAULT) if value is None else _STRATEGIES.get(str(value), Now(by_hand='strategy="ddp"'))


def _refresh_rate(value: Any) -> Now:
    return Now({"enable_progress_bar": False}) if value == 0 else Now(reason="it only changed the display")


def _callback(example: str, default: tuple[Any, ...]) -> Upgrade:
    def upgrade(value: Any) -> Now:
        if any(value is one for one in default):
            return Now(reason=_DEFAULT)
        return Now(by_hand=f"callbacks=[{example}]")

    return upgrade


def _loggers(value: Any) -> Now:
    if value in (False, None):
        return Now(reason=_DEFAULT)
    if value is True:
        return Now(by_hand='loggers=[CSVLogger("runs")]')
    return Now({"loggers": list(value) if isinstance(value, (list, tuple)) else [value]})


def _resume(value: Any) -> Now:
    return Now(reason=_DEFAULT) if value is None else Now(by_hand=f"trainer.fit(..., ckpt_path={str(value)!r})")


def _native(name: str) -> Upgrade:
    def upgrade(value: Any) -> Now:
        if value is None:
            return Now(reason=_DEFAULT)
        return Now(by_hand=f'native={{"lightning": {{"{name}": {value!r}}}}}, for a run on Lightning.')

    return upgrade


_SHOWN = _gone("it only changed the display")
_SUMMARY = _gone("callbacks=[ModelSummary()] shows the layers")
_NO_DEVICE = "unitrain trains on CPUs, GPUs and MPS."

OLD: dict[str, Upgrade] = {
    **{old: _to(new) for old, new in RENAMED.items()},
    **{old: _removed(row) for old, row in REMOVED.items()},
    "gpus": _gpus,
    "num_processes": _processes,
    **dict.fromkeys(("tpu_cores", "ipus"), _removed(Removed("devices", "", (0, None), _NO_DEVICE))),
    "distributed_backend": _backend,
    "progress_bar_refresh_rate": _refresh_rate,
    "weights_summary": _SHOWN,
    "checkpoint_callback": _callback('ModelCheckpoint("checkpoints")', (None, False)),
    "early_stop_callback": _callback('EarlyStopping("val/loss")', (None, False)),
    "resume_from_checkpoint": _resume,
    "use_amp": _switch(precision="16-mixed"),
    "replace_sampler_ddp": _removed(Removed("", "", (True,), "OwnBatches(loader) is not sharded.")),
    "terminate_on_nan": lambda value: Now(by_hand="callbacks=[TerminateOnNaN()]") if value else Now(reason=_DEFAULT),
    "reload_dataloaders_every_epoch": _switch(reload_dataloaders_every_n_epochs=1),
    "logger": _loggers,
    "enable_checkpointing": _callback('ModelCheckpoint("checkpoints")', (False,)),
    "enable_model_summary": _SUMMARY,
    "plugins": _native("plugins"),
}
"""Arguments that UnifiedTrainer lacks: those of 0.x and 1.x, and current ones with another name here."""


@difference(
    "pytorch-lightning", since="2.0", drop="3.0", link="https://lightning.ai/docs/pytorch/stable/upgrade/from_1_9.html"
)
def today(name: str, value: Any) -> Now | None:
    """Return what an argument of an old Trainer means today, or None if it is not an old one."""
    if name in OLD:
        return OLD[name](value)
    if name in ("accelerator", "strategy") and isinstance(value, str):
        found = _STRATEGIES.get(value)
        return None if found is not None and found.options == {name: value} else found
    return None


def old_spellings(given: Mapping[str, Any]) -> dict[str, str]:
    """Return how to write the old ones of ``given``, and those of other trainers, by their names."""
    found = {name: today(name, value) for name, value in given.items()}
    return options_for(given) | {name: now.hint for name, now in found.items() if now is not None}
