"""``quantize="int8"`` by torchao: linear layers with 8-bit weights and dynamically quantized inputs."""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from unitrain.errors import ExportError, install_hint
from unitrain.export.capture_stderr import kept_back
from unitrain.export.trace import followed, without_paths
from unitrain.export.verify import Tolerance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram

    from unitrain.export.request import Request

INT8 = Tolerance(0.05, "weights and activations rounded to 8 bits, 1/255 of their range; errors accumulate over layers")
_KIND = "int8"
_TORCHAO = "torchao"


@dataclass(frozen=True)
class Quantized:
    """The quantized layers.

    Attributes:
        layers: The quantized layers, by the format's names.
        before: Size of their weights in the model, in bytes.
        after: Size of their weights in the file, with the scales, in bytes.
    """

    layers: tuple[str, ...]
    before: int
    after: int

    def metadata(self, request: Request) -> dict[str, Any]:
        """Return the request's metadata with this in it.

        Raises:
            ExportError: If nothing became smaller: that would be a float file which is called int8.
        """
        if not self.layers:
            raise ExportError(
                f"quantize={request.quantize!r}: {type(request.source).__name__} has no layers that can be"
                f" quantized: linear layers (nn.Linear), in ONNX also convolutions and embeddings.",
                hint="remove quantize=.",
            )
        facts = {"layers": list(self.layers), "bytes_before": self.before, "bytes_after": self.after}
        return {**request.metadata, "quantized": facts}


def require_int8(request: Request) -> None:
    """Refuse another kind than int8, and two precisions at a time.

    Raises:
        ExportError: If it is so.
    """
    if request.quantize != _KIND:
        raise ExportError(f"quantize= takes {_KIND!r}, got {request.quantize!r}.", hint=f"quantize={_KIND!r}")
    if request.half:
        raise ExportError(
            'quantize="int8" and half=True set two different precisions for the same weights.',
            hint="remove one of them.",
        )


def require_torchao() -> None:
    """Refuse before the work.

    Raises:
        ExportError: If torchao is not installed.
    """
    if find_spec(_TORCHAO) is None:
        raise ExportError('quantize="int8" requires torchao in this format.', hint=install_hint("quantize"))


def graph_of(request: Request) -> tuple[ExportedProgram, dict[str, Any]]:
    """Return the graph, quantized if that was asked for, and the metadata that tells of it.

    Raises:
        ExportError: If torch cannot follow the model, or nothing in it can be quantized.
    """
    if not request.quantize:
        return without_paths(followed(request)), dict(request.metadata)
    require_int8(request)
    require_torchao()
    with int8_linears(request.module) as found:
        metadata = found.metadata(request)
        return plain(followed(request)), metadata


@contextmanager
def int8_linears(module: nn.Module) -> Iterator[Quantized]:
    """Lend ``module`` with int8 twins instead of its linear layers.

    A weight that something else uses too (a tied embedding) stays there unchanged. Attention keeps its own weights: it
    reads them past the layer.
    """
    places = [
        (parent, name, layer, f"{path}.{name}".removeprefix("model."))
        for path, parent in module.named_modules(remove_duplicate=False)
        for name, layer in parent._modules.items()  # noqa: SLF001
        if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
    ]
    layers = {id(layer): layer for _, _, layer, _ in places}
    twins = {key: _int8(layer) for key, layer in layers.items()}
    found = Quantized(
        layers=tuple({id(layer): name for _, _, layer, name in reversed(places)}.values())[::-1],
        before=sum(layer.weight.nbytes for layer in layers.values()),
        after=sum(one.nbytes for twin in twins.values() for name, one in twin.named_parameters() if "weight" in name),
    )
    try:
        for parent, name, layer, _ in places:
            parent._modules[name] = twins[id(layer)]  # noqa: SLF001
        yield found
    finally:
        for parent, name, layer, _ in places:
            parent._modules[name] = layer  # noqa: SLF001


def _int8(layer: nn.Linear) -> nn.Module:
    """Return a layer of the same class, with the same hooks, whose weight is int8 numbers and their scales."""
    with kept_back(), without_root_handlers():  # torchao tells of kernels for other accelerators
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_  # noqa: PLC0415
        from torchao.utils import unwrap_tensor_subclass  # noqa: PLC0415

        holder = nn.Sequential(_twin(layer))
        quantize_(holder, Int8DynamicActivationInt8WeightConfig())
        twin: nn.Module = unwrap_tensor_subclass(holder)[0]
    return twin


def _twin(layer: nn.Module) -> nn.Module:
    """Return a layer of the same class and hooks with dictionaries of its own, to be changed."""
    twin = copy.copy(layer)
    twin._parameters = dict(layer._parameters)  # noqa: SLF001
    twin._modules = dict(layer._modules)  # noqa: SLF001
    return twin


def plain(program: ExportedProgram) -> ExportedProgram:
    """Return ``program`` with torchao's operators written out in torch's: it is then loaded without torchao."""
    from torch._inductor.decomposition import decompositions  # noqa: PLC0415

    table = {one: how for one, how in decompositions.items() if getattr(one, "namespace", "") == _TORCHAO}
    return without_paths(program.run_decompositions(table))


@contextmanager
def without_root_handlers() -> Iterator[None]:
    """Keep ``logging.warning`` from setting up the process's logging, which is not ours to set up."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
