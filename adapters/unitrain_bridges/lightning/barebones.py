"""``Trainer(barebones=True)``: disables features, and rejects conflicting arguments with Lightning's messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitrain_bridges.lightning.namespace import Parts

_DISABLED_MODE = "so it is disabled in barebones mode."
_DISABLED = f"can impact raw speed {_DISABLED_MODE}"
_OFF: dict[str, tuple[Any, str]] = {
    "enable_checkpointing": (False, f"Checkpointing {_DISABLED}"),
    "logger": (False, f"Logging {_DISABLED}"),
    "enable_progress_bar": (False, f"The progress bar {_DISABLED}"),
    "log_every_n_steps": (0, f"Logging {_DISABLED}"),
    "enable_model_summary": (False, f"Model summary {_DISABLED}"),
    "num_sanity_val_steps": (0, f"Sanity checking {_DISABLED}"),
    "fast_dev_run": (
        False,
        "Development run is not meant for raw speed evaluation so it is disabled in barebones mode.",
    ),
    "detect_anomaly": (False, f"Anomaly detection {_DISABLED}"),
    "profiler": (None, f"Profiling {_DISABLED}"),
}
"""The arguments that it turns off, each with its value and why another one raises, in Lightning's order."""

_FEATURES = (
    " - Checkpointing: `Trainer(enable_checkpointing=True)`",
    " - Progress bar: `Trainer(enable_progress_bar=True)`",
    " - Model summary: `Trainer(enable_model_summary=True)`",
    (
        " - Logging: `Trainer(logger=True)`, `Trainer(log_every_n_steps>0)`,"
        " `LightningModule.log(...)`, `LightningModule.log_dict(...)`"
    ),
    " - Sanity checking: `Trainer(num_sanity_val_steps>0)`",
    " - Development run: `Trainer(fast_dev_run=True)`",
    " - Anomaly detection: `Trainer(detect_anomaly=True)`",
    " - Profiling: `Trainer(profiler=...)`",
)
_BEGINS = (
    "You are running in `Trainer(barebones=True)` mode. All features that may impact raw speed have been"
    " disabled to facilitate analyzing the Trainer overhead. Specifically, the following features are"
    " deactivated:"
)
RUNS = (
    "`Trainer(barebones=True)` started running. The progress bar is disabled so you might want to"
    " manually print the progress in your model."
)
"""What Lightning logs when a run of it begins."""


def without_extras(parts: Parts, given: dict[str, Any]) -> dict[str, Any]:
    """Return a Trainer's arguments, with everything off that ``barebones=True`` turns off.

    Raises:
        ValueError: If one of them was asked for, as Lightning raises.
    """
    if not given.get("barebones"):
        return given
    for name, (_, why) in _OFF.items():
        if given[name] is not None and given[name] is not False and given[name] != 0:
            raise ValueError(f"`Trainer(barebones=True, {name}={given[name]!r})` was passed. {why}")
    parts.rank_zero_info(f"{_BEGINS}{os.linesep}{os.linesep.join(_FEATURES)}")
    return {**given, **{name: value for name, (value, _) in _OFF.items()}}
