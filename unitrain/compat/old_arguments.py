"""Arguments that Lightning's Trainer renamed or removed: the one table, for refusals, ``upgrade()`` and the codemod.

Replacements that depend on the value, such as for ``gpus="0,1"``, are where arguments are rewritten:
``compat.trainer_arguments`` for UnifiedTrainer, ``unitrain_lightning.fixers.trainer_arguments`` for a script that stays
with Lightning.
"""

from __future__ import annotations

from typing import Any, NamedTuple

RENAMED = {
    "show_progress_bar": "enable_progress_bar",
    "max_nb_epochs": "max_epochs",
    "min_nb_epochs": "min_epochs",
    "nb_gpu_nodes": "num_nodes",
    "nb_sanity_val_steps": "num_sanity_val_steps",
    "train_percent_check": "limit_train_batches",
    "val_percent_check": "limit_val_batches",
    "test_percent_check": "limit_test_batches",
    "overfit_pct": "overfit_batches",
    "add_row_log_interval": "log_every_n_steps",
    "row_log_interval": "log_every_n_steps",
    "gradient_clip": "gradient_clip_val",
    "default_save_path": "default_root_dir",
}
"""The current names, which Lightning and UnifiedTrainer share."""


class Removed(NamedTuple):
    """An argument that is gone.

    Attributes:
        group: The codemod's rule, without ``lightning-``.
        reason: Why it is gone.
        defaults: The values with which nothing is lost; empty if that is so with every value.
        here: The replacement with UnifiedTrainer.
        there: The replacement with Lightning's own Trainer; empty if none is necessary.
        reason_here: Why nothing is lost with UnifiedTrainer; empty if ``reason`` is true of both.
    """

    group: str
    reason: str
    defaults: tuple[Any, ...] = ()
    here: str = ""
    there: str = ""
    reason_here: str = ""

    def loses_nothing(self, value: Any) -> bool:
        """Return whether nothing changes without the argument that has this value."""
        same = (value is one or (type(value) is type(one) and value == one) for one in self.defaults)
        return not self.defaults or any(same)


_OLD, _REMOVED, _IN_2_0 = "old-arguments", "removed-arguments", "it was removed in 2.0"
_FLUSHED = "loggers flush automatically"
_KEEP = 'callbacks=[ModelCheckpoint("checkpoints")]'
_APEX = 'precision="16-mixed": apex support was removed.'

REMOVED = {
    "auto_select_gpus": Removed("devices", "this was the default", (False, None), 'devices="auto"', 'devices="auto"'),
    "process_position": Removed("display", "it only changed the display"),
    "weights_save_path": Removed(
        "checkpointing", "it was removed in 1.8", (None,), _KEEP, "ModelCheckpoint(dirpath=...)"
    ),
    "amp_backend": Removed("precision", _IN_2_0, ("native", None), _APEX, "apex support was removed; remove it"),
    "amp_level": Removed("precision", _IN_2_0, (None,), _APEX, 'precision="16-mixed" instead of apex'),
    "log_save_interval": Removed(_OLD, _FLUSHED),
    "print_nan_grads": Removed(_OLD, "it was removed in 1.0, and only printed"),
    "enable_pl_optimizer": Removed(_OLD, "this is always the case"),
    "flush_logs_every_n_steps": Removed(_REMOVED, "it was removed in 1.7; CSVLogger takes it", reason_here=_FLUSHED),
    "log_gpu_memory": Removed(
        _REMOVED, "it was removed in 1.7; DeviceStatsMonitor logs it", (None,), "callbacks=[DeviceStats()]"
    ),
    "stochastic_weight_avg": Removed(
        _REMOVED,
        "it was removed in 1.7",
        (False, None),
        "callbacks=[EMA(0.999)]",
        "callbacks=[StochasticWeightAveraging(...)]",
    ),
    "prepare_data_per_node": Removed(
        _REMOVED,
        "it is an attribute of the data since 1.7",
        (True, None),
        *["datamodule.prepare_data_per_node"] * 2,
    ),
    "multiple_trainloader_mode": Removed(
        _REMOVED,
        _IN_2_0,
        ("max_size_cycle",),
        "unitrain.CombinedLoader(loaders, mode)",
        "CombinedLoader(loaders, mode)",
    ),
    "move_metrics_to_cpu": Removed(_REMOVED, _IN_2_0, (False,), *["metric.compute_on_cpu = True"] * 2),
    "track_grad_norm": Removed(
        _REMOVED,
        _IN_2_0,
        (-1, "-1"),
        "log it in a handler of Event.BACKWARD_END.",
        "log grad_norm(self, 2) in on_before_optimizer_step",
    ),
    "truncated_bptt_steps": Removed(
        _REMOVED, _IN_2_0, (None, 0), "split the batch in a training_step.", "split the batch in training_step"
    ),
    "auto_lr_find": Removed(
        "tuner",
        _IN_2_0,
        (False, None),
        "LRFinder().run(framework, spec, loader).suggestion()",
        "Tuner(trainer).lr_find(model), or LRFinder",
    ),
    "auto_scale_batch_size": Removed(
        "tuner",
        _IN_2_0,
        (False, None),
        "use BatchSizeFinder().run(framework, spec, loader).",
        "Tuner(trainer).scale_batch_size(model), or choose it",
    ),
}
"""Arguments that have no successor of the same meaning."""
