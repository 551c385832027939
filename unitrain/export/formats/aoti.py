"""The format ``aoti``: a ``.pt2`` that AOTInductor compiled, for ``torch._inductor.aoti_load_package``.

It holds machine code for the kind of processor it was compiled on; ``torch`` says so where it is loaded on another.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from unitrain.errors import ExportError
from unitrain.export.formats.quantized import INT8, graph_of
from unitrain.export.request import FOLLOWED_OPTIONS, METADATA
from unitrain.export.verify import Tolerance, compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from unitrain.export.request import Request
    from unitrain.export.verify import Difference

_CACHE = "TORCHINDUCTOR_CACHE_DIR"


class AOTInductor:
    """Compiles what torch.export follows, with the C++ compiler of this machine."""

    options = FOLLOWED_OPTIONS | {"quantize"}

    def tolerance(self, request: Request) -> Tolerance:
        """Return how far it may be."""
        return INT8 if request.quantize else Tolerance(1e-4, "fused float32 operators, which sum in another order")

    def write(self, request: Request, path: Path) -> None:
        """Write one file.

        Raises:
            ExportError: If there is no compiler, or torch cannot follow or compile the model.
        """
        with _nothing_left():
            _require_compiler()
            program, metadata = graph_of(request)
            settings = {
                "aot_inductor.metadata": {METADATA: json.dumps(metadata)},
                "aot_inductor.precompile_headers": False,  # they would stay in the temporary folder
                "compile_threads": 1,  # no processes that stay
            }
            try:
                torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=settings)  # noqa: SLF001
            except Exception as error:
                raise ExportError(
                    f"AOTInductor cannot compile {type(request.source).__name__}: {_told(error)}",
                    hint='format="torch_export" needs no compiler; or use other operators.',
                ) from error

    def verify(self, request: Request, path: Path) -> tuple[Difference, ...]:
        """Compare the file with the model."""
        return compared(self.load(path), request)

    def load(self, path: Path) -> Callable[..., Any]:
        """Return what the file computes."""
        with _nothing_left():
            loaded: Callable[..., Any] = torch._inductor.aoti_load_package(str(path))  # noqa: SLF001
        return loaded


@contextmanager
def _nothing_left() -> Iterator[None]:
    """Lend Inductor a folder for its caches: its own stays in the temporary folder for good."""
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory(prefix="unitrain-aoti-") as folder:
        os.environ[_CACHE] = folder  # before the import, which makes the folder that it finds here
        from torch._inductor.utils import clear_caches  # noqa: PLC0415

        try:
            clear_caches()  # they name files of other folders
            yield
        finally:
            clear_caches()
            os.environ.pop(_CACHE)
            if before is not None:
                os.environ[_CACHE] = before


def _require_compiler() -> None:
    """Refuse before the work.

    Raises:
        ExportError: If there is no C++ compiler.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except Exception as error:
        raise ExportError(
            f'the format "aoti" needs a C++ compiler, and none was found: {_told(error)}',
            hint="apt-get install g++, or set the environment variable CXX.",
        ) from error


def _told(error: Exception) -> str:
    said = str(error).strip()
    return f"{type(error).__name__}: {said if len(said) < 1500 else f'{said[:700]} ... {said[-700:]}'}"  # noqa: PLR2004


FORMAT = AOTInductor()
