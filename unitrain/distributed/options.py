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
        timeout: How long a process waits for the others in one exchange before it gives up; a process group that the
            script itself has made keeps its own.
        watchdog: How long a process may give no sign of life before the others give it up.

    Raises:
        ConfigError: If a duration is not above zero.
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
    """Each process has the whole model; gradients are averaged (torch's DistributedDataParallel).

    ``UnifiedTrainer(native={"ddp": {"find_unused_parameters": True, "bucket_cap_mb": 50}})`` hands arguments to it.

    Example:
        >>> from datetime import timedelta
        >>> DDP(timeout=timedelta(minutes=10)).name
        'ddp'
    """

    name: ClassVar[str] = "ddp"


@named_arguments(ConfigError)
@dataclass(frozen=True, kw_only=True)
class FSDP(Strategy):
    """Each process has a part of each parameter, its gradient and its optimizer state (torch's ``fully_shard``).

    ``UnifiedTrainer(native={"fsdp": {"reshard_after_forward": False}})`` hands arguments to it.

    Attributes:
        wrap: The classes of the modules that are gathered and freed separately, as
            ``(nn.TransformerEncoderLayer,)``; they must be used by calling them. By default they are the model's direct
            children, and instead of a ModuleList, ModuleDict or Sequential what is in it. The rest is gathered
            for a whole step.

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
