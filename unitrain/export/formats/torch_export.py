"""The format ``torch_export``: torch's own graph and weights, in a ``.pt2`` that ``torch.export.load`` reads."""

from __future__ import annotations

import io
import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from unitrain.export.formats.quantized import INT8, graph_of
from unitrain.export.request import FOLLOWED_OPTIONS, METADATA
from unitrain.export.verify import HALF, Tolerance, compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference


_WEIGHTS_ONLY, _ANYTHING = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_LOCK = threading.Lock()


class TorchExport:
    """Writes what torch.export follows, unchanged."""

    options = FOLLOWED_OPTIONS | {"half", "quantize"}

    def tolerance(self, request: Request) -> Tolerance:
        """Return how far it may be."""
        if request.quantize:
            return INT8
        return HALF if request.half else Tolerance(1e-6, "the same torch operators in float32")

    def write(self, request: Request, path: Path) -> None:
        """Write one file.

        Raises:
            ExportError: If torch cannot follow the model.
        """
        program, metadata = graph_of(request)
        program._example_inputs = None  # noqa: SLF001 - rows of somebody's data, which have no place in a file
        content = io.BytesIO()  # torch's own writer ends the process where a disk is full
        torch.export.save(program, content, extra_files={METADATA: json.dumps(metadata)})
        path.write_bytes(content.getbuffer())

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file with the model."""
        return compared(self.load(path), request)

    def load(self, path: Path) -> Callable[..., Any]:
        """Return the module in the file.

        Raises:
            pickle.UnpicklingError: If it has a pickle of anything but tensors.
        """
        with _weights_only():
            module: Callable[..., Any] = torch.export.load(path).module()
        return module


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let ``torch.load`` refuse code in a pickle; torch.export.load would run it where tensors are expected."""
    with _LOCK:
        before = {name: os.environ.pop(name, None) for name in (_WEIGHTS_ONLY, _ANYTHING)}
        os.environ[_WEIGHTS_ONLY] = "1"
        try:
            yield
        finally:
            del os.environ[_WEIGHTS_ONLY]
            os.environ.update({name: one for name, one in before.items() if one is not None})


FORMAT = TorchExport()
