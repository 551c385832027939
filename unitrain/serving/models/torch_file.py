"""Runs ``.pt2`` (torch.export, AOTInductor) and TorchScript files, as the formats of an export load them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from unitrain.errors import ExportError
from unitrain.export.formats.table import find_format
from unitrain.export.metadata import read_metadata
from unitrain.serving.signature import signature_of

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.serving.arrays import Array

_READABLE: Final = ("torch_export", "torchscript", "aoti")


class TorchFile:
    """A file that torch runs, on the CPU.

    Args:
        path: The file.
        threads: How many one run may use.

    Raises:
        ExportError: If it was not written by unitrain, or torch refuses it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.metadata = _metadata(path)
        self.format = str(self.metadata["format"])
        self.signature = signature_of(self.metadata)
        try:
            self._module = find_format(self.format).load(path)
        except Exception as error:
            reason = str(error).replace(str(path), path.name)[:300]
            raise ExportError(f"torch cannot load {path.name}: {reason}", hint="export it again.") from error

    def run(self, inputs: list[Array]) -> list[Array]:
        """Return the outputs."""
        with torch.inference_mode():
            found = self._module(*[torch.from_numpy(np.array(one)) for one in inputs])  # it may write into them
        return [one.numpy() for one in (found if isinstance(found, (tuple, list)) else (found,))]


def _metadata(path: Path) -> dict[str, Any]:
    """Return what the file says of itself.

    Raises:
        ExportError: If it says nothing, as a file of another program or a checkpoint.
    """
    found = read_metadata(path)
    if found is not None and found.get("format") in _READABLE and "inputs" in found:
        return found
    raise ExportError(
        f"{path.name} has no signature: it was not exported by unitrain.",
        hint='trainer.export("model.onnx"), or unitrain.export_module(model, "model.pt2", example_input=x)',
    )


def open_file(path: Path, threads: int) -> TorchFile:
    """Return what runs the file."""
    return TorchFile(path, threads)
