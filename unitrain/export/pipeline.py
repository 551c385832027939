"""The export pipeline: prepare, write, verify, then move the file into place."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import nn

from unitrain.errors import ExportError, complete_call, refuse_unknown
from unitrain.export.formats.table import find_format, name_of
from unitrain.export.metadata import read_metadata
from unitrain.export.probe import ModelProbe
from unitrain.export.quiet import quiet
from unitrain.export.request import EXAMPLE, OTHER_NAMES, ExportOptions, Request
from unitrain.export.verify import ExportReport, Tolerance, require_close
from unitrain.export.wrap import at_rest, borrowed, halved, require_float32, unwrapped
from unitrain.utilities.files import failing_as, user_path, workspace
from unitrain.utilities.rng import preserved_rng
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from unitrain.export.formats.table import Format

_AROUND = ("preprocess", "postprocess")


@complete_call(ExportError, 'unitrain.export_module(model, "model.onnx", example_input=batch)')
def export_module(
    module: Any,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - as everyone calls it
    weights: Mapping[str, Tensor] | None = None,
    source: Mapping[str, Any] | None = None,
    default_example: Any = None,
    **options: Unpack[ExportOptions],
) -> ExportReport:
    """Export ``module`` to ``path`` in eval mode and verify the file; the module is unchanged.

    Args:
        module: The module to export.
        path: The file to write; an existing one is kept if the export fails.
        format: One of ``FORMATS``; by default inferred from the suffix of ``path``.
        weights: Weights to use instead of the module's own, by name.
        source: Origin of the weights, for the metadata.
        default_example: Example if none is given; formats that need none ignore it. None of its values
            are in the file.
        **options: The fields of ``ExportOptions``.

    Returns:
        The differences between the file and the module.

    Raises:
        ExportError: If the file cannot be written, or its outputs differ.

    Example:
        >>> report = export_module(torch.nn.Linear(4, 1), "linear.pt2", example_input=torch.randn(8, 4))
        >>> report.path.exists()
        True
    """
    began, path = time.perf_counter(), user_path(path)
    name = name_of(path, format)
    chosen = find_format(name)
    asked = _asked(name, chosen, options, default_example)
    model = unwrapped(module)
    with ExitStack() as stack:
        stack.enter_context(failing_as(ExportError, path))
        part = stack.enter_context(_beside(path))
        for context in (torch.no_grad(), preserved_rng(), quiet(), at_rest(model, weights or {})):
            stack.enter_context(context)
        for around in filter(None, map(asked.get, _AROUND)):
            stack.enter_context(at_rest(unwrapped(around), {}))
        given = options.get(EXAMPLE) is not None
        request = _request(model, name, asked, source or {}, publish=given)
        with borrowed(model, halved) if request.half else nullcontext():
            chosen.write(request, part)
        differences = chosen.verify(request, part)
        limit = (
            chosen.tolerance(request) if request.tolerance is None else Tolerance(request.tolerance, "from tolerance=")
        )
        size, seconds = part.stat().st_size, time.perf_counter() - began
        report = ExportReport(path, name, differences, limit, seconds, size, _metadata(part))
        require_close(report)
        part.replace(path)
    return report


def _asked(name: str, chosen: Format, options: Mapping[str, Any], default_example: Any) -> dict[str, Any]:
    """Return the given options.

    Raises:
        ExportError: If the format does not take one of them, or has no example to follow.
    """
    refuse_unknown(options, ExportOptions.__annotations__, "export()", ExportError, OTHER_NAMES)
    asked = {key: value for key, value in options.items() if value is not None and value is not False}
    for key in asked:
        if key not in chosen.options:
            raise ExportError(
                f"the format {name!r} does not support {key}=.",
                hint=f"supported: {', '.join(sorted(chosen.options)) or 'no options'}.",
            )
    _require_values(asked)
    if EXAMPLE in chosen.options and asked.setdefault(EXAMPLE, default_example) is None:
        raise ExportError(
            f"the format {name!r} needs an example input to trace the model; none was given.",
            hint="pass example_input=, a batch of inputs as in training, or TrainSpec(example_input=...); on the"
            " command line"
            " --example SHAPE.",
        )
    return asked


def _require_values(asked: Mapping[str, Any]) -> None:
    """Refuse invalid values.

    Raises:
        ExportError: If there is one; the message names the first.
    """
    if not 0 <= _number(asked.get("tolerance", 0)) < 1:
        raise ExportError(
            f"tolerance={asked['tolerance']!r} must be a number from 0 to below 1, relative to the largest output.",
            hint="tolerance=1e-3",
        )
    if not isinstance(asked.get("half", False), bool):
        raise ExportError(f"half= must be True or False; got {asked['half']!r:.80}.", hint="half=True")
    for name in _AROUND:
        if not isinstance(asked.get(name), nn.Module | None):
            raise ExportError(
                f"{name}= must be a torch.nn.Module; got {asked[name]!r:.80}.",
                hint="wrap it in the forward of a module.",
            )


def _number(given: Any) -> float:
    return float(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else -1.0


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a path in a temporary folder beside ``path``.

    The file's name there is always the same, since torch writes it into the file.

    Raises:
        ExportError: If it is a folder itself.
    """
    if path.is_dir():
        raise ExportError(f"{path} cannot be written: it is a directory.", hint="pass the path of a file.")
    with workspace(path) as folder:
        yield folder / f"model{path.suffix}"


def _metadata(path: Path) -> dict[str, Any]:
    """Return the metadata in the file, read as users read it.

    Raises:
        ExportError: If there is none.
    """
    found = read_metadata(path)
    if found is None:
        raise ExportError("the metadata cannot be read from the file, so it was deleted.")
    return found


def _request(
    model: nn.Module, name: str, asked: Mapping[str, Any], source: Mapping[str, Any], *, publish: bool
) -> Request:
    """Return the request for the format."""
    if asked.get("half"):
        require_float32(model)
    plain: dict[str, Any] = {key: asked[key] for key in ("half", "opset", "quantize", "tolerance") if key in asked}
    facts = {
        "unitrain": __version__,
        "torch": str(torch.__version__),
        "format": name,
        "half": bool(asked.get("half")),
        "quantize": asked.get("quantize"),
        **source,
    }
    if EXAMPLE not in asked:
        return Request(module=model, source=model, metadata=facts, **plain)
    return ModelProbe(model, asked, publish=publish).request(facts, **plain)
