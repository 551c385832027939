"""The ``self.trainer`` attributes of every backend, as data for the run and the static check."""

TRAINER = frozenset(
    {
        # where the run is
        "current_epoch",
        "global_step",
        "state",
        "training",
        "validating",
        "testing",
        "predicting",
        "evaluating",
        "sanity_checking",
        "interrupted",
        "received_sigterm",
        "should_stop",
        "is_last_batch",
        # limits and switches
        "accumulate_grad_batches",
        "barebones",
        "check_val_every_n_epoch",
        "enable_autolog_hparams",
        "enable_validation",
        "estimated_stepping_batches",
        "fast_dev_run",
        "gradient_clip_algorithm",
        "gradient_clip_val",
        "limit_predict_batches",
        "limit_test_batches",
        "limit_train_batches",
        "limit_val_batches",
        "log_every_n_steps",
        "max_epochs",
        "max_steps",
        "min_epochs",
        "min_steps",
        "num_sanity_val_steps",
        "overfit_batches",
        "reload_dataloaders_every_n_epochs",
        "val_check_batch",
        "val_check_interval",
        # what is trained, and with what
        "lightning_module",
        "model",
        "datamodule",
        "optimizers",
        "lr_scheduler_configs",
        "precision",
        "precision_plugin",
        "scaler",
        "strategy",
        "accelerator",
        # data
        "train_dataloader",
        "val_dataloaders",
        "test_dataloaders",
        "predict_dataloaders",
        "num_training_batches",
        "num_val_batches",
        "num_sanity_val_batches",
        "num_test_batches",
        "num_predict_batches",
        # what is measured, and who is told
        "callback_metrics",
        "logged_metrics",
        "progress_bar_metrics",
        "logger",
        "loggers",
        "log_dir",
        "default_root_dir",
        "callbacks",
        "checkpoint_callback",
        "checkpoint_callbacks",
        "early_stopping_callback",
        "early_stopping_callbacks",
        "progress_bar_callback",
        "ckpt_path",
        "profiler",
        # one process
        "device_ids",
        "distributed_sampler_kwargs",
        "global_rank",
        "is_global_zero",
        "local_rank",
        "node_rank",
        "num_devices",
        "num_nodes",
        "world_size",
        # the counters of the loops; the loops themselves are the backend's
        "fit_loop",
        "validate_loop",
        "test_loop",
        "predict_loop",
        # to call
        "fit",
        "validate",
        "test",
        "predict",
        "save_checkpoint",
        "init_module",
        "print",
    }
)
"""Trainer attributes that exist on every backend."""

LOOPS = {
    "fit_loop": frozenset(
        {
            "batch_idx",
            "done",
            "epoch_loop",
            "epoch_progress",
            "is_resuming",
            "max_batches",
            "max_epochs",
            "max_steps",
            "min_epochs",
            "min_steps",
            "restarting",
            "setup_data",
            "state_dict",
            "load_state_dict",
            "total_batch_idx",
        }
    ),
    "epoch_loop": frozenset(
        {
            "automatic_optimization",
            "batch_idx",
            "batch_progress",
            "done",
            "global_step",
            "manual_optimization",
            "max_steps",
            "min_steps",
            "scheduler_progress",
            "total_batch_idx",
            "val_loop",
        }
    ),
    "val_loop": frozenset({"batch_progress", "max_batches", "num_dataloaders", "skip", "verbose", "inference_mode"}),
}
"""Loop attributes that exist on every backend; the backend itself runs them (``run``, ``advance``)."""

ELSEWHERE: dict[str, str] = {}
"""Public Trainer attributes that only exist on Lightning, with alternatives; "" if there is none."""

ARGUMENTS = {
    "model_registry": "upload the file that ModelCheckpoint wrote.",
    "num_nodes": "num_nodes=1, or framework='lightning'.",
}
"""Trainer arguments that only work on Lightning, with alternatives."""

PLUGINS = {
    "BitsandbytesPrecision": "framework='lightning'.",
    "DeepSpeedPrecision": "precision=, or framework='lightning'.",
    "FSDPPrecision": 'precision=, or a TrainSpec with strategy="fsdp".',
}
"""Precision plugins that only work on Lightning, with alternatives; the others act everywhere."""

ENVIRONMENT = "PL_TRAINER_"
"""How the environment variables begin from which a Trainer takes the arguments that are not given."""

STRATEGIES = ("auto", "single_device")
"""Values of ``strategy=`` that work on every backend."""
