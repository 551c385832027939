"""The format ``torchscript``: deprecated by torch, for programs that read nothing else."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from unitrain.export.quiet import let_pass
from unitrain.export.request import FOLLOWED_OPTIONS, METADATA
from unitrain.export.trace import followed
from unitrain.export.verify import HALF, Tolerance, compared
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference

_LEGACY = (
    'TorchScript is deprecated by torch: format="torch_export" is read by torch.export.load, format="onnx" by every'
    ' runtime, and the file of format="aoti" by C++.'
)
_JIT: Any = torch.jit  # without annotations
_DEPRECATED = ((DeprecationWarning, r"`torch\.jit\.\w+` is deprecated"), (_JIT.TracerWarning, ""))
"""unitrain warns once itself; what a trace would warn about, torch.export and the comparison reject."""


class TorchScript:
    """Writes a trace, of what torch.export has found to do the same for any input."""

    options = FOLLOWED_OPTIONS | {"half"}

    def tolerance(self, request: Request) -> Tolerance:
        """Return how far it may be."""
        return HALF if request.half else Tolerance(1e-5, "float32; TorchScript may fuse operators")

    def write(self, request: Request, path: Path) -> None:
        """Write one file.

        Raises:
            ExportError: If the code does not do the same for any input: a trace would follow the example's way only.
        """
        followed(request)
        warn_caller(_LEGACY, FutureWarning)
        with let_pass(_DEPRECATED):
            traced = _JIT.trace(request.module, request.inputs, check_trace=False)
            content = io.BytesIO()  # torch's own writer ends the process where a disk is full
            _JIT.save(traced, content, _extra_files={METADATA: json.dumps(request.metadata)})
        path.write_bytes(content.getbuffer())
        _without_paths(path)

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file with the model."""
        return compared(self.load(path), request)

    def load(self, path: Path) -> Callable[..., Any]:
        """Return the module in the file."""
        with let_pass(_DEPRECATED):
            module: Callable[..., Any] = _JIT.load(path, map_location="cpu")
        return module


def _without_paths(path: Path) -> None:
    """Drop what is for debuggers only: it names folders of this machine."""
    with zipfile.ZipFile(path) as archive:
        kept = [(one.filename, archive.read(one)) for one in archive.infolist() if one.filename[-10:] != ".debug_pkl"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept:
            archive.writestr(zipfile.ZipInfo(name), content)


FORMAT = TorchScript()
