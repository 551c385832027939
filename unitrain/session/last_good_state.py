"""Keeps the state after the last completed batch, in case the next one fails."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.checkpoint import io
from unitrain.checkpoint.layout import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from unitrain.backends.protocol import FitJob


class Rescue:
    """Keeps the newest content of a checkpoint without copying the weights, and tells whether it is still valid.

    It becomes invalid once an optimizer begins a step or a tensor is written in place. Buffers are copied, because a
    forward pass changes those of a batch norm. Writes through ``tensor.data`` are noticed only if an optimizer makes
    them.

    Args:
        job: The fit.
    """

    def __init__(self, job: FitJob) -> None:
        self._model = job.spec.model
        self._content: dict[str, Any] | None = None
        self._versions: list[tuple[Tensor, int]] = []
        self._hooks = [optimizer.register_step_pre_hook(self._forget) for optimizer in job.optimizers.values()]

    def close(self) -> None:
        """Release the optimizers."""
        for hook in self._hooks:
            hook.remove()

    def keep(self, content: dict[str, Any]) -> None:
        """Record a state from which the run can be resumed."""
        state = dict(content["state_dict"])
        for name, _ in self._model.named_buffers():
            if f"{PREFIX}{name}" in state:
                state[f"{PREFIX}{name}"] = state[f"{PREFIX}{name}"].clone()
        self._content = {**content, "state_dict": state}
        self._versions = [(tensor, tensor._version) for tensor in _tensors(self._content)]  # noqa: SLF001 - torch's only way

    def _forget(self, *_: Any) -> None:
        self._content = None

    def holds(self) -> bool:
        """Return whether the kept state is still valid."""
        return self._content is not None and all(tensor._version == version for tensor, version in self._versions)  # noqa: SLF001

    def write(self, path: Path) -> None:
        """Write the kept state to ``path``."""
        assert self._content is not None  # noqa: S101 - ``holds`` was asked
        io.write_admitted(path, self._content)


def warn_of_none() -> None:
    """Warn that no ``exception.ckpt`` is written, and why."""
    warnings.warn(
        "exception.ckpt was not written: the error came after the weights had changed, in validation or at the end"
        " of an epoch, where a run cannot resume with identical results. Older checkpoints are unchanged.",
        stacklevel=2,
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
