"""Differences between Lightning releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from unitrain.errors import UnsupportedFeatureError, VersionError
from unitrain_lightning._compat import until

if TYPE_CHECKING:
    from unitrain_bridges.lightning.namespace import Parts

_KNOWN = Version("2.4")
_RESUMING = Version("2.5.6")
_CUTTING = Version("2.6.0")


@until("2.6.0")
def steps_schedules_when_cut(parts: Parts) -> bool:
    """Return whether an epoch that ``on_train_batch_start`` cuts by -1 steps its schedules, as others do."""
    return Version(parts.version) >= _CUTTING


@until("2.5.6")
def refuse_resuming(parts: Parts, framework: str) -> None:
    """Refuse to resume as older releases do: they read the first batches of an epoch twice.

    Raises:
        UnsupportedFeatureError: If the installed release is older than the oldest supported one.
    """
    if Version(parts.version) < _RESUMING:
        raise UnsupportedFeatureError(
            f"fit(ckpt_path=...) on {framework!r} requires Lightning >= {_RESUMING}; installed: {parts.version}.",
            hint=f"pip install 'pytorch-lightning>={_RESUMING}', or framework='lightning'.",
        )


@until("2.4.0")
def refuse_elsewhere(parts: Parts, framework: str) -> None:
    """Refuse to replace a Trainer of a release whose loops differ from the supported ones.

    Raises:
        VersionError: If it is older than 2.4.
    """
    if Version(parts.version) < _KNOWN:
        raise VersionError(
            f"a LightningModule on {framework!r} requires Lightning >= {_KNOWN}; installed: {parts.version}.",
            hint=f"pip install 'pytorch-lightning>={_KNOWN}', or framework='lightning'.",
        )
