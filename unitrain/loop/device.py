"""The device of a run, and torch's global switches during it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from unitrain.config import TrainerConfig

_ALIASES = {"gpu": "cuda"}


def choose_device(config: TrainerConfig, local_rank: int = 0) -> torch.device:
    """Return the device of this process.

    Args:
        config: The trainer's options.
        local_rank: Rank of this process among those of its host.

    Raises:
        ConfigError: If it is not available, as the CPU is never used instead; or cannot prefetch.
    """
    kind = _ALIASES.get(config.accelerator, config.accelerator)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if kind == "auto":
        kind = next(name for name, there in available.items() if there)
    if not available[kind]:
        raise ConfigError(
            f"accelerator={config.accelerator!r} was requested, but torch {torch.__version__} finds no {kind} device.",
            hint='use accelerator="auto" or accelerator="cpu".',
        )
    index = config.devices[local_rank] if isinstance(config.devices, list) else local_rank
    if config.prefetch_to_device and kind != "cuda":
        raise ConfigError(
            f"prefetch_to_device=True needs a CUDA GPU; this run is on {kind!r}.",
            hint="prefetch_to_device=torch.cuda.is_available()",
        )
    if kind != "cuda":
        if index and (kind != "cpu" or isinstance(config.devices, list)):  # any number of processes shares processors
            raise ConfigError(f"devices={config.devices!r}: there is only one {kind} device.", hint="devices=1")
        return torch.device(kind)
    if index >= torch.cuda.device_count():
        raise ConfigError(f"devices={config.devices!r}: there are {torch.cuda.device_count()} GPUs, numbered from 0.")
    return torch.device(kind, index)


def current_device(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which ``device`` is the current GPU: the one whose random states a checkpoint contains."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def torch_switches(config: TrainerConfig) -> Iterator[None]:
    """Set ``deterministic``, ``benchmark`` and ``detect_anomaly`` for a run, and restore them."""
    with ExitStack() as stack:
        if config.deterministic:
            before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
            torch.use_deterministic_algorithms(mode=True, warn_only=config.deterministic == "warn")
            stack.callback(lambda: torch.use_deterministic_algorithms(before[0], warn_only=before[1]))
        if config.benchmark is not None:
            stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
            torch.backends.cudnn.benchmark = config.benchmark
        if config.detect_anomaly:
            stack.enter_context(torch.autograd.set_detect_anomaly(mode=True))
        yield


@contextmanager
def compiled(model: nn.Module, config: TrainerConfig) -> Iterator[None]:
    """Compile the calls of ``model`` and of its direct children for a run, if ``compile=True``.

    The model stays the same object with the same names, so files contain no ``_orig_mod.``. The children are for manual
    steps that call them directly. torch caches compiled code for at most eight models with the same code, and then
    silently runs eagerly; the cache is cleared first, so that a run does not depend on earlier ones.

    Raises:
        ConfigError: If the model is already compiled.
    """
    if not config.compile:
        yield
        return
    modules = [model, *model.children()]
    if hasattr(model, "_orig_mod") or any("_compiled_call_impl" in vars(module) for module in modules):
        raise ConfigError("compile=True: the model is already compiled.", hint="remove compile=True.")
    torch.compiler.reset()
    try:
        for module in modules:
            vars(module)["_compiled_call_impl"] = _compiled_call(module)
        yield
    finally:
        for module in modules:
            vars(module).pop("_compiled_call_impl", None)


def _compiled_call(module: nn.Module) -> Callable[..., Any]:
    """Return the compiled call of a module, also for torch's own: ``module.compile()`` does nothing for a Sequential.

    torch does not compile code in torch.nn itself, only code that is called from elsewhere, such as here.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]  # noqa: SLF001 - as Module.compile

    own = call.__code__.replace()  # the eight versions that torch keeps are by code object
    compiled_call: Callable[..., Any] = torch.compile(FunctionType(own, globals(), "call", None, call.__closure__))
    return compiled_call
