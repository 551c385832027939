"""The strategies that ``UnifiedTrainer(strategy=)`` accepts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from torch import nn

from unitrain.errors import ConfigError, named_arguments


@named_arguments(ConfigError)
@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The common options of strategies.

    Attributes:
        timeout: Maximum time to wait for the other processes in one exchange; a process group created by the script
            keeps its own timeout.
        watchdog: Maximum time without a heartbeat before a process counts as failed.

    Raises:
        ConfigError: If a duration is not positive.
    """

    name: ClassVar[str] = ""
    timeout: timedelta = timedelta(minutes=30)
    watchdog: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        """Check the durations."""
        for option in ("timeout", "watchdog"):
            value = getattr(self, option)
            if not isinstance(value, timedelta) or value <= timedelta(0):
                raise ConfigError(
                    f"{type(self).__name__}({option}=) must be a positive timedelta, got {value!r}.",
                    hint=f"{option}=timedelta(minutes=5)",
                )


class DDP(Strategy):
    """Data parallel: each process has the whole model; gradients are averaged (torch's DistributedDataParallel).

    ``UnifiedTrainer(native={"ddp": {"find_unused_parameters": True, "bucket_cap_mb": 50}})`` passes arguments to it.

    Attributes:
        timeout: Maximum time to wait for the other processes in one exchange.
        watchdog: Maximum time without a heartbeat before a process counts as failed.

    Raises:
        ConfigError: If a duration is not positive.

    Example:
        >>> from datetime import timedelta
        >>> DDP(timeout=timedelta(minutes=10)).name
        'ddp'
    """

    name: ClassVar[str] = "ddp"


@named_arguments(ConfigError)
@dataclass(frozen=True, kw_only=True)
class FSDP(Strategy):
    """Each process has a shard of each parameter, gradient and optimizer state (torch's ``fully_shard``).

    ``UnifiedTrainer(native={"fsdp": {"reshard_after_forward": False}})`` passes arguments to it.

    Attributes:
        wrap: Classes of the modules that are gathered and freed separately, such as ``(nn.TransformerEncoderLayer,)``;
            the model must use these modules by calling them. By default, the model's direct children, and the items of
            a ModuleList, ModuleDict or Sequential. The rest is gathered for a whole step.
        timeout: Maximum time to wait for the other processes in one exchange.
        watchdog: Maximum time without a heartbeat before a process counts as failed.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> FSDP().name
        'fsdp'
    """

    name: ClassVar[str] = "fsdp"
    wrap: tuple[type[nn.Module], ...] | None = None

    def __post_init__(self) -> None:
        """Check the durations and the classes."""
        super().__post_init__()
        if self.wrap is None:
            return
        given = self.wrap if isinstance(self.wrap, (list, tuple, set, frozenset)) else (self.wrap,)
        if not all(isinstance(one, type) and issubclass(one, nn.Module) for one in given):
            raise ConfigError(
                f"FSDP(wrap=) must be module classes; got {self.wrap!r}.",
                hint="FSDP(wrap=(nn.TransformerEncoderLayer,))",
            )
        object.__setattr__(self, "wrap", tuple(given))


STRATEGIES: dict[str, Strategy] = {"auto": DDP(), "ddp": DDP(), "fsdp": FSDP()}
"""Strategies by name; ``"auto"`` is a single process on a single device."""
