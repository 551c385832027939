"""LightningModule hooks that 2.0 removed or changed, for the codemod and upgraded modules."""

from __future__ import annotations

from typing import Final, NamedTuple


class EpochEnd(NamedTuple):
    """The replacement of a removed ``..._epoch_end(outputs)``.

    Attributes:
        hook: The stage as the hooks name it.
        outputs: The attribute that keeps the outputs.
        keeps_empty: Whether an output that holds nothing was handed on too.
    """

    hook: str
    outputs: str
    keeps_empty: bool = True


_TRAIN = EpochEnd("train", "training_step_outputs", keeps_empty=False)
_VALIDATION = EpochEnd("validation", "validation_step_outputs")
_TEST = EpochEnd("test", "test_step_outputs")

EPOCH_ENDS: Final = {
    "training_epoch_end": _TRAIN,
    "validation_epoch_end": _VALIDATION,
    "test_epoch_end": _TEST,
}
EPOCH_ENDS_OF_0: Final = {"training_end": _TRAIN, "validation_end": _VALIDATION, "test_end": _TEST}

RENAMES: Final = {
    "on_epoch_start": "on_train_epoch_start",
    "on_epoch_end": "on_train_epoch_end",
    "on_batch_start": "on_train_batch_start",
    "on_batch_end": "on_train_batch_end",
    "on_pretrain_routine_start": "on_fit_start",
    "on_pretrain_routine_end": "on_fit_start",
    "on_before_accelerator_backend_setup": "setup",
    "on_configure_sharded_model": "setup",
    "on_init_start": "setup",
    "on_init_end": "setup",
    "on_keyboard_interrupt": "on_exception",
    "on_hpc_load": "on_load_checkpoint",
    "on_hpc_save": "on_save_checkpoint",
    "on_post_move_to_device": "configure_model",
    **{f"on_{stage}_dataloader": f"{stage}_dataloader" for stage in ("train", "val", "test", "predict")},
}
"""Hooks that Lightning 2 no longer calls, with the ones that are called instead."""

_AT_THE_SAME_TIME = {"on_epoch_start", "on_epoch_end", "on_batch_start", "on_batch_end", "on_pretrain_routine_start"}
BY_HAND: Final = frozenset(RENAMES.keys() - _AT_THE_SAME_TIME)
"""Hooks whose replacements are called at other times."""

PARAMETERS: Final = {
    "on_train_epoch_end": 0,
    "on_validation_epoch_end": 0,
    "on_test_epoch_end": 0,
    "on_predict_epoch_end": 0,
    "on_train_batch_start": 2,
    "on_train_batch_end": 3,
    "on_before_optimizer_step": 1,
    "on_before_zero_grad": 1,
}
"""The number of parameters of a hook, without ``self`` and, in a callback, ``trainer`` and ``pl_module``."""

GONE: Final = ("optimizer_idx", "on_tpu", "using_native_amp", "using_lbfgs")
"""Parameters of ``optimizer_step`` and similar hooks that 2.0 no longer passes."""
