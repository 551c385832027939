"""Prepares a module for export (eval mode, CPU, flat inputs and outputs) and restores it afterwards."""

from __future__ import annotations

import inspect
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unitrain.compat.torch import uncompiled
from unitrain.data.batch import to_dtype
from unitrain.data.structure import tensors
from unitrain.distributed.strategies.dtensors import is_part
from unitrain.errors import ExportError
from unitrain.export.tree import call, rebuilt
from unitrain.utilities.train_modes import ModuleModes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Prepared(nn.Module):
    """The exported module: takes the named tensors by position, returns a tensor or a tuple of tensors.

    Args:
        model: The model.
        example: The example input, whose tensors are replaced by the given ones.
        names: Names of the inputs, which become the parameters of ``forward``.
        preprocess: Module to run before the model.
        postprocess: Module to run after the model.
        half: Whether the model computes in float16; inputs and outputs stay float32.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        names: Sequence[str],
        *,
        preprocess: nn.Module | None = None,
        postprocess: nn.Module | None = None,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.training = False  # its parts are lent in eval mode
        self.model, self.preprocess, self.postprocess = model, preprocess, postprocess
        self._example, self._half = example, half
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]

        def forward(*inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
            found = tuple(tensors(self.nested(*inputs)))
            return found[0] if len(found) == 1 else found

        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward  # torch.export names the inputs of the graph by the signature

    def nested(self, *inputs: Tensor) -> Any:
        """Return what the model, and what is after it, return."""
        value = rebuilt(self._example, iter(inputs))
        if self.preprocess is not None:
            value = call(self.preprocess, value)
        if self._half:
            value = to_dtype(value, torch.float16)
        value = call(self.model, value)
        if self._half:
            value = to_dtype(value, torch.float32)
        return value if self.postprocess is None else call(self.postprocess, value)


def unwrapped(module: Any) -> nn.Module:
    """Return the module itself, without what torch.compile and DistributedDataParallel put around it.

    Raises:
        ExportError: If it is not a module, or no process has all of its weights.
    """
    if not isinstance(module, nn.Module):
        raise ExportError(
            f"only a torch.nn.Module can be exported; got {module!r:.80}.", hint="create an instance first."
        )
    compiled, replicated = "_orig_mod", "module"  # as torch calls what is inside
    model: nn.Module = module
    while isinstance(model, nn.parallel.DistributedDataParallel) or hasattr(model, compiled):
        model = getattr(model, compiled if hasattr(model, compiled) else replicated)
    if any(is_part(one) for one in model.parameters()):
        raise ExportError(
            "the model is sharded across processes (FSDP).",
            hint="trainer.save_checkpoint('run.ckpt'), then `unitrain export run.ckpt OUT --model module:make_spec`.",
        )
    return model


@contextmanager
def at_rest(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Lend ``module`` in eval mode, on the CPU and not compiled; what is compiled within it runs uncompiled.

    Args:
        module: Is afterwards as it was: the modes of its parts, its parameters and buffers, by identity.
        weights: Weights to use instead of its own, by name.
    """
    modes = ModuleModes(module)
    compiled = [one for one in module.modules() if vars(one).get("_compiled_call_impl") is not None]
    calls = [vars(one).pop("_compiled_call_impl") for one in compiled]
    try:
        with uncompiled(), borrowed(module, lambda name, own: _on_cpu(name, weights.get(name, own), own.dtype)):
            yield
    finally:
        for one, call_impl in zip(compiled, calls, strict=True):
            vars(one)["_compiled_call_impl"] = call_impl
        modes.restore()


@contextmanager
def borrowed(module: nn.Module, convert: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Lend ``module`` with other tensors instead of its parameters and buffers, and put the same objects back.

    Args:
        module: The module.
        convert: Returns the other tensor for a name and a tensor. Tied ones stay tied.
    """
    made: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for prefix, part in module.named_modules(remove_duplicate=False):
            for name, own in [*part._parameters.items(), *part._buffers.items()]:  # noqa: SLF001
                if own is None:
                    continue
                if id(own) not in made:
                    other = convert(f"{prefix}.{name}".removeprefix("."), own.detach())
                    made[id(own)] = nn.Parameter(other, own.requires_grad) if isinstance(own, nn.Parameter) else other
                if getattr(part, name) is own:  # else a module that is there under two names, done already
                    stack.callback(setattr, part, name, own)
                    setattr(part, name, made[id(own)])  # not into the dict: recurrent modules keep lists of them
        yield


def _on_cpu(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_meta:
        raise ExportError(
            f"the weight {name!r} has no values: it is on the device 'meta'.", hint="load the weights first."
        )
    return tensor.to("cpu", dtype)


def require_float32(module: nn.Module) -> None:
    """Refuse to halve what is not float32.

    Raises:
        ExportError: If a weight has another floating dtype.
    """
    for name, one in module.state_dict().items():
        if isinstance(one, Tensor) and one.is_floating_point() and one.dtype != torch.float32:
            raise ExportError(
                f"half=True converts float32 to float16, but the weight {name!r} is {one.dtype}.",
                hint="remove half=True, or convert the model first.",
            )


def halved(_: str, tensor: Tensor) -> Tensor:
    """Return a floating tensor in float16."""
    return tensor.half() if tensor.is_floating_point() else tensor
