"""Names of other libraries and their equivalents here, for hints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATA = "the batch size belongs to the data: DataLoader(dataset, batch_size=32)."
_OPTIMIZER = "it belongs to the optimizer: TrainSpec(optimizer=partial(torch.optim.AdamW, lr=1e-3))."
_SPEC = "it belongs to the spec: TrainSpec({}=...)."
_CHECKPOINTS = 'callbacks=[ModelCheckpoint("checkpoints", monitor="val/loss")]'
_RESUME = 'trainer.fit(spec, loader, ckpt_path="last")'
_SPEC_OPTIMIZER = "optimizer=partial(torch.optim.AdamW, lr=1e-3)"
_TRAINER = "it belongs to the trainer: UnifiedTrainer({}=...)."
_DATA_OF_FIT = "it belongs to the run: trainer.fit(spec, train, val)."
_MIXED = 'precision="{}"'

OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("epochs", "num_epochs", "n_epochs", "nb_epochs", "num_train_epochs", "n_epoch", "total_epochs"), "max_epochs=3"
    ),
    **dict.fromkeys(("steps", "num_steps", "max_iters", "num_training_steps", "max_iterations"), "max_steps=1000"),
    **dict.fromkeys(("lr", "learning_rate", "weight_decay", "momentum"), _OPTIMIZER),
    **dict.fromkeys(("batch_size", "per_device_train_batch_size", "train_batch_size"), _DATA),
    **dict.fromkeys(("num_workers", "shuffle", "dataloader_num_workers"), "DataLoader(dataset, num_workers=2)"),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accumulation_steps", "grad_accum", "accumulate", "accum_iter"),
        "accumulate_grad_batches=4",
    ),
    **dict.fromkeys(
        ("max_grad_norm", "clip_grad", "grad_clip", "gradient_clip", "clip_grad_norm", "clipnorm"),
        "gradient_clip_val=1.0",
    ),
    **dict.fromkeys(("fp16", "use_fp16", "amp", "mixed_precision"), _MIXED.format("16-mixed")),
    **dict.fromkeys(("bf16", "use_bf16"), _MIXED.format("bf16-mixed")),
    **dict.fromkeys(("device", "use_cuda", "cuda"), 'accelerator="gpu"'),
    **dict.fromkeys(("n_gpus", "num_gpus", "n_gpu", "nproc_per_node", "world_size"), "devices=2"),
    **dict.fromkeys(("log_dir", "logdir", "output_dir", "save_dir", "checkpoint_dir"), 'default_root_dir="runs"'),
    **dict.fromkeys(("log_interval", "logging_steps", "log_every"), "log_every_n_steps=50"),
    **dict.fromkeys(("tracker", "trackers", "report_to"), 'loggers=[CSVLogger("runs")]'),
    **dict.fromkeys(("callback", "handlers"), 'callbacks=[EarlyStopping("val/loss")]'),
    **dict.fromkeys(("random_seed", "random_state", "manual_seed"), "seed=0"),
    **dict.fromkeys(("progress_bar", "verbose", "disable_tqdm", "show_progress"), "enable_progress_bar=False"),
    **dict.fromkeys(("eval_steps", "val_every_n_steps", "validation_freq", "eval_interval"), "val_check_interval=500"),
    **dict.fromkeys(("early_stopping", "patience"), 'callbacks=[EarlyStopping("val/loss", patience=3)]'),
    **dict.fromkeys(("save_steps", "save_top_k", "checkpoint"), _CHECKPOINTS),
    **dict.fromkeys(("resume", "ckpt_path", "resume_from"), _RESUME),
    **dict.fromkeys(("optimizer", "loss", "metrics", "model", "lr_scheduler"), ""),
    **dict.fromkeys(("torch_compile", "jit_compile"), "compile=True"),
    **dict.fromkeys(("backend", "engine"), 'the first argument: UnifiedTrainer("ignite")'),
}
"""Equivalents for arguments of Keras, Hugging Face and fastai, and for common guesses."""

RUN_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(
        ("train_loader", "train_dataloader", "train_data", "trainloader", "train_dl", "train"),
        "train_dataloaders=loader",
    ),
    **dict.fromkeys(
        (
            "val_loader",
            "val_dataloader",
            "validation_data",
            "val_data",
            "valid_loader",
            "val_dl",
            "eval_dataset",
            "val",
        ),
        "val_dataloaders=loader",
    ),
    **dict.fromkeys(
        ("loader", "dataloader", "data", "test_dataloaders", "test_loader", "test_dataloader"), "dataloaders=loader"
    ),
    **dict.fromkeys(("datamodule", "dm"), "pass it as the data: fit(spec, datamodule)"),
    **dict.fromkeys(
        ("checkpoint", "resume", "resume_from_checkpoint", "resume_from", "checkpoint_path", "ckpt"), 'ckpt_path="last"'
    ),
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "n_epochs"), "UnifiedTrainer(framework, max_epochs=3)"),
    **dict.fromkeys(("callbacks", "callback"), "UnifiedTrainer(framework, callbacks=[...]), or TrainSpec(callbacks=)"),
    **dict.fromkeys(("batch_size", "shuffle"), _DATA),
    **dict.fromkeys(("model", "module"), "spec=TrainSpec(model=model, loss=..., optimizer=...)"),
}
"""Equivalents for arguments of ``fit``, ``validate``, ``test`` and ``predict`` in other libraries."""

SPEC_FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("criterion", "loss_fn", "loss_function", "objective", "loss_func"), "loss=nn.CrossEntropyLoss()"),
    **dict.fromkeys(
        ("lr", "learning_rate", "weight_decay", "momentum"), "optimizer=partial(torch.optim.AdamW, lr=1e-3)"
    ),
    **dict.fromkeys(("optim", "optimizers", "opt"), "optimizer=partial(torch.optim.AdamW, lr=1e-3)"),
    **dict.fromkeys(("net", "network", "module"), "model=MyModule()"),
    **dict.fromkeys(("train_step", "step", "process_function", "step_fn"), "training_step="),
    **dict.fromkeys(("val_step", "eval_step", "test_step", "valid_step"), "validation_step="),
    **dict.fromkeys(("hyperparameters", "hyper_parameters", "params", "config"), "hparams="),
    **dict.fromkeys(("seed", "max_epochs", "precision", "loggers"), _TRAINER),
    **dict.fromkeys(("epochs", "num_epochs", "n_epochs"), "it belongs to the trainer: UnifiedTrainer(max_epochs=3)."),
    **dict.fromkeys(("train_loader", "val_loader", "train", "val", "data"), _DATA_OF_FIT),
}
"""Equivalents for arguments of a TrainSpec."""

STATE: Mapping[str, str] = {
    **dict.fromkeys(("current_epoch", "epochs"), "state.epoch, from 0"),
    **dict.fromkeys(("global_step", "steps", "optimizer_steps"), "state.step"),
    **dict.fromkeys(("iteration", "iterations", "batch_idx", "batches"), "state.batch"),
    **dict.fromkeys(("callback_metrics", "logged_metrics", "progress_bar_metrics"), 'state.metrics["val/loss"]'),
    "output": "state.loss",
}
"""Equivalents for attributes of a Trainer and of an Engine's state."""

RUN: Mapping[str, str] = {
    **{name: f"run.{hint}" for name, hint in STATE.items()},
    **{name: f"run.state.{name}" for name in ("epoch", "loss", "tensors")},
    **dict.fromkeys(("should_stop", "terminate", "terminate_epoch"), "run.stop()"),
    "log_dict": "run.log(name, value) for each value",
    "optimizer": 'run.optimizers["optimizer"]',
    "lr_scheduler": "run.schedules",
    **dict.fromkeys(("trainer", "engine"), "run.native"),
}
"""Equivalents for attributes of a Trainer or an Engine, in a handler."""

TRAINER: Mapping[str, str] = {
    **{name: f"trainer.{hint}" for name, hint in STATE.items()},
    **{name: f"trainer.state.{name}" for name in ("epoch", "metrics", "tensors")},
    **dict.fromkeys(("run", "start", "train_model"), "trainer.fit(spec, loader)"),
    **dict.fromkeys(("evaluate", "eval"), "trainer.validate(spec, loader)"),
    **dict.fromkeys(("add_event_handler", "add_callback", "register"), "trainer.on(Event.EPOCH_END, handler)"),
    **dict.fromkeys(("should_stop", "terminate"), "trainer.stop()"),
    **dict.fromkeys(("tune", "lr_find"), "LRFinder().run(trainer, spec, loader)"),
    **dict.fromkeys(("model", "optimizers", "loss"), "they are the spec's; in a handler, run.model and run.optimizers"),
    **dict.fromkeys(("callbacks", "loggers", "max_epochs", "precision"), "trainer.config has the options"),
}
"""Equivalents for attributes of a Trainer or an Engine."""

RESULT: Mapping[str, str] = {
    **dict.fromkeys(("model", "weights", "state_dict"), "spec.model, which was trained in place"),
    **dict.fromkeys(("best_model_path", "best_ckpt_path"), "result.best_checkpoint"),
    "last_model_path": "result.last_checkpoint",
    **dict.fromkeys(("callback_metrics", "logs", "loss"), 'result.metrics["val/loss"]'),
    **dict.fromkeys(("epochs", "losses", "log"), "result.history"),
}
"""Equivalents for attributes of what other libraries return from training."""

CALLBACKS: Mapping[str, str] = {
    **dict.fromkeys(("n_saved", "save_best_only", "save_best", "max_to_keep"), 'monitor="val/loss", save_top_k=1'),
    **dict.fromkeys(("score_function", "score_name", "metric", "metric_name", "quantity"), 'monitor="val/loss"'),
    **dict.fromkeys(("every_n_steps", "save_steps", "save_interval"), "every_n_train_steps=500"),
    **dict.fromkeys(("period", "every_n_val_epochs", "save_freq"), "every_n_epochs=1"),
    **dict.fromkeys(("async_save", "save_async", "background"), "asynchronous=True"),
    "save_weights_only": "remove it: unitrain.load_weights(path) reads only the weights of a file.",
    "restore_best_weights": 'ModelCheckpoint(monitor="val/loss") keeps the best; trainer.validate(ckpt_path="best").',
    "verbose": "remove it: the progress bar and the trackers show what is measured.",
    **dict.fromkeys(("momentum", "alpha", "beta", "ema_decay"), "decay=0.999"),
    **dict.fromkeys(("log_dir", "logdir", "output_dir", "path"), "it is the first argument."),
}
"""Equivalents for arguments of callbacks and loggers."""

EVENTS: Mapping[str, str] = {
    # Ignite's
    "STARTED": "FIT_START",
    "EPOCH_STARTED": "EPOCH_START",
    "ITERATION_STARTED": "BATCH_START",
    "ITERATION_COMPLETED": "BATCH_END",
    "EPOCH_COMPLETED": "EPOCH_END",
    "COMPLETED": "FIT_END",
    "TERMINATE": "FIT_END",
    "INTERRUPT": "FIT_END",
    "TERMINATE_SINGLE_EPOCH": "EPOCH_END",
    "EXCEPTION_RAISED": "EXCEPTION",
    "GET_BATCH_STARTED": "BATCH_START",
    "GET_BATCH_COMPLETED": "BATCH_START",
    "DATALOADER_STOP_ITERATION": "EPOCH_END",
    # Lightning's hooks, without "on_"
    "TRAIN_START": "FIT_START",
    "TRAIN_END": "FIT_END",
    "TRAIN_EPOCH_START": "EPOCH_START",
    "TRAIN_EPOCH_END": "EPOCH_END",
    "TRAIN_BATCH_START": "BATCH_START",
    "TRAIN_BATCH_END": "BATCH_END",
    "VALIDATION_START": "VAL_START",
    "VALIDATION_END": "VAL_END",
    "VALIDATION_EPOCH_START": "VAL_START",
    "VALIDATION_EPOCH_END": "VAL_END",
    "VALIDATION_BATCH_START": "VAL_BATCH_START",
    "VALIDATION_BATCH_END": "VAL_BATCH_END",
    "TEST_EPOCH_START": "TEST_START",
    "TEST_EPOCH_END": "TEST_END",
    "PREDICT_EPOCH_START": "PREDICT_START",
    "PREDICT_EPOCH_END": "PREDICT_END",
    "AFTER_BACKWARD": "BACKWARD_END",
    "BEFORE_OPTIMIZER_STEP": "BACKWARD_END",
    "BEFORE_ZERO_GRAD": "OPTIMIZER_STEP",
    "SAVE_CHECKPOINT": "CHECKPOINT_SAVED",
    # Keras's and Hugging Face's
    "TRAIN_BEGIN": "FIT_START",
    "EPOCH_BEGIN": "EPOCH_START",
    "BATCH_BEGIN": "BATCH_START",
    "TRAIN_BATCH_BEGIN": "BATCH_START",
    "TEST_BEGIN": "TEST_START",
    "STEP_BEGIN": "BATCH_START",
    "STEP_END": "BATCH_END",
    "EVALUATE": "VAL_END",
    "SAVE": "CHECKPOINT_SAVED",
}
"""Our events by the names of other libraries' events and hooks."""


def options_for(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the equivalents of those of ``given`` that are options of other trainers, by name."""
    return {name: OPTIONS[name] or _SPEC.format(name) for name in given if name in OPTIONS}


def spec_fields_for(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the equivalents of those of ``given`` that a spec has under another name, or that belong elsewhere."""
    return {name: SPEC_FIELDS[name].format(name) for name in given if name in SPEC_FIELDS}


def callback_arguments_for(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the equivalents of those of ``given`` that are arguments of other libraries' callbacks or loggers."""
    return {name: CALLBACKS[name] for name in given if name in CALLBACKS}


def event_for(name: object) -> str | None:
    """Return the name of our event for ``EPOCH_COMPLETED``, ``on_train_epoch_end`` and the like."""
    return EVENTS.get(str(name).upper().removeprefix("ON_"))
