"""The format ``safetensors``: the weights alone, by the model's own names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from unitrain.checkpoint import safetensors_file
from unitrain.errors import CheckpointError, ExportError
from unitrain.export.request import METADATA
from unitrain.export.verify import Tolerance
from unitrain.export.wrap import halved

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference


class SafeTensors:
    """Writes weights; what computes with them is not in the file."""

    options = frozenset({"half"})

    def tolerance(self, request: Request) -> Tolerance:  # noqa: ARG002 - of the protocol
        """Return how far they may be."""
        return Tolerance(0.0, "weights, each compared bit for bit")

    def write(self, request: Request, path: Path) -> None:
        """Write the weights.

        Raises:
            ExportError: If there is anything but tensors among them.
        """
        try:
            content = safetensors_file.packed(request.source.state_dict(), {METADATA: json.dumps(request.metadata)})
        except CheckpointError as error:
            raise ExportError(
                str(error).partition("\n")[0], hint='format="torch_export" also contains the code.'
            ) from error
        path.write_bytes(content)

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare every weight, bit for bit.

        Raises:
            ExportError: If one is missing, too many or another.
        """
        found = safetensors_file.unpacked(path)
        for name, own in request.source.state_dict().items():
            expected = halved(name, own) if request.half else own
            if name not in found or not _same(found.pop(name), expected):
                raise ExportError(f"the weight {name!r} differs between the file and the model; the file was deleted.")
        if found:
            raise ExportError(f"the file contains {', '.join(found)}, which the model lacks; the file was deleted.")
        return ()

    def load(self, path: Path) -> Callable[..., Any]:
        """Refuse: there is nothing to run.

        Raises:
            ExportError: Always.
        """
        raise ExportError(
            f"{path} contains only weights, no runnable model.",
            hint="model.load_state_dict(unitrain.load_weights(path))",
        )


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


FORMAT = SafeTensors()
