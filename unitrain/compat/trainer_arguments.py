"""Arguments that Lightning's Trainer renamed or removed, and UnifiedTrainer's equivalents.

The one table for the refusal of an old spelling, which names the new one, and for ``upgrade()`` of a config. The
codemod knows the same names (``unitrain_lightning.fixers.trainer_arguments``); a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from unitrain.compat.differences import difference
from unitrain.compat.other_names import options_for


class Now(NamedTuple):
    """The current equivalent of an old argument.

    Attributes:
        options: Of UnifiedTrainer; none if it goes.
        by_hand: What a person is to do, where no option means the same.
        reason: Why it goes.
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


def _gone_if(*accepted: Any, by_hand: str) -> Upgrade:
    def upgrade(value: Any) -> Now:
        plain = any(value is one or (type(value) is type(one) and value == one) for one in accepted)
        return Now(reason=_DEFAULT) if plain else Now(by_hand=by_hand)

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
_CHOSEN = "use BatchSizeFinder().run(framework, spec, loader)."
_NO_DEVICE = "unitrain trains on CPUs, GPUs and MPS."

OLD: dict[str, Upgrade] = {
    "gpus": _gpus,
    "num_processes": _processes,
    "tpu_cores": _gone_if(0, None, by_hand=_NO_DEVICE),
    "ipus": _gone_if(0, None, by_hand=_NO_DEVICE),
    "auto_select_gpus": _gone_if(False, None, by_hand='devices="auto"'),
    "distributed_backend": _backend,
    "progress_bar_refresh_rate": _refresh_rate,
    "process_position": _SHOWN,
    "show_progress_bar": _to("enable_progress_bar"),
    "weights_summary": _SHOWN,
    "checkpoint_callback": _callback('ModelCheckpoint("checkpoints")', (None, False)),
    "early_stop_callback": _callback('EarlyStopping("val/loss")', (None, False)),
    "weights_save_path": _gone_if(None, by_hand='callbacks=[ModelCheckpoint("checkpoints")]'),
    "resume_from_checkpoint": _resume,
    "use_amp": _switch(precision="16-mixed"),
    "amp_backend": _gone_if("native", None, by_hand='precision="16-mixed": apex support was removed.'),
    "amp_level": _gone_if(None, by_hand='precision="16-mixed": apex support was removed.'),
    "max_nb_epochs": _to("max_epochs"),
    "min_nb_epochs": _to("min_epochs"),
    "nb_gpu_nodes": _to("num_nodes"),
    "nb_sanity_val_steps": _to("num_sanity_val_steps"),
    "train_percent_check": _to("limit_train_batches"),
    "val_percent_check": _to("limit_val_batches"),
    "test_percent_check": _to("limit_test_batches"),
    "overfit_pct": _to("overfit_batches"),
    "add_row_log_interval": _to("log_every_n_steps"),
    "row_log_interval": _to("log_every_n_steps"),
    "gradient_clip": _to("gradient_clip_val"),
    "default_save_path": _to("default_root_dir"),
    "replace_sampler_ddp": _gone_if(True, by_hand="OwnBatches(loader) is not sharded."),
    "log_save_interval": _gone("trackers flush automatically"),
    "print_nan_grads": _gone("it only printed"),
    "enable_pl_optimizer": _gone("this is always the case"),
    "log_gpu_memory": _gone_if(None, by_hand="callbacks=[DeviceStats()]"),
    "flush_logs_every_n_steps": _gone("trackers flush automatically"),
    "terminate_on_nan": lambda value: Now(by_hand="callbacks=[TerminateOnNaN()]") if value else Now(reason=_DEFAULT),
    "stochastic_weight_avg": _gone_if(False, None, by_hand="callbacks=[EMA(0.999)]"),
    "prepare_data_per_node": _gone_if(True, None, by_hand="datamodule.prepare_data_per_node"),
    "reload_dataloaders_every_epoch": _switch(reload_dataloaders_every_n_epochs=1),
    "multiple_trainloader_mode": _gone_if("max_size_cycle", by_hand="unitrain.CombinedLoader(loaders, mode)"),
    "move_metrics_to_cpu": _gone_if(False, by_hand="metric.compute_on_cpu = True"),
    "track_grad_norm": _gone_if(-1, "-1", by_hand="log it in a handler of Event.BACKWARD_END."),
    "truncated_bptt_steps": _gone_if(None, 0, by_hand="split the batch in a training_step."),
    "auto_lr_find": _gone_if(False, None, by_hand="LRFinder().run(framework, spec, loader).suggestion()"),
    "auto_scale_batch_size": _gone_if(False, None, by_hand=_CHOSEN),
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
