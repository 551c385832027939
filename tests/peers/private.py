"""The tests of the frameworks that look at a private part, or at their own framework's name, and the part.

By pattern of a test's id: such a test fails on another backend although a program would run there with equal bits.
"""

from __future__ import annotations

_CLOSURE = "calls `trainer.fit_loop.epoch_loop.automatic_optimization._make_closure`"

PRIVATE: dict[str, dict[str, str]] = {
    "ignite": {},
    "lightning": {
        "*/test_evaluation_loop_flow.py::test__eval_step__flow": _CLOSURE,
        "*/test_training_loop_flow_scalar.py::test__training_step__epoch_end__flow_scalar": _CLOSURE,
        "*/test_auto_restart.py::test_auto_restart_under_signal*": (
            "reads `epoch_loop._is_training_done`, and the names of the methods of Lightning's loops from a traceback"
        ),
        "*/test_dataloaders.py::test_dataloaders_load_only_once_passed_loaders*": (
            "replaces `_request_dataloader` in the modules of two of Lightning's loops"
        ),
        "*/test_model_checkpoint.py::test_model_checkpoint_score_and_ckpt*": "replaces `epoch_loop._get_monitor_value`",
        "*/test_cli.py::test_cli_no_need_configure_optimizers": "replaces `Trainer._run_stage`",
        "*/test_cli.py::test_lightning_cli_*_short_arguments": "replaces `Trainer._fit_impl`",
        "*/test_cli.py::test_lightning_cli[[]*]": "has Lightning's own Trainer, taken before the redirection, as a parameter",
    },
}
