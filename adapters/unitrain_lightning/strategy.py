"""Lightning's DDP strategy over the process group that unitrain has joined, with the model wrapped by the shared step.

Lightning would wrap the whole LightningModule. There, under manual optimization, the forward pass that torch watches
is the whole training step; buffers are exchanged in the first one only. The shared step wraps the forward pass alone,
as a hand-written loop does, so that gradients and buffers are the same bits on every backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import distributed as dist

from unitrain_lightning.namespace import OnLightning

if TYPE_CHECKING:
    from datetime import timedelta

    from unitrain.distributed.world import World


class TeamEnvironment(OnLightning):
    """Describes the processes to Lightning, which did not start them.

    Args:
        world: The place of this process.
    """

    stands_on = "ClusterEnvironment"

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def creates_processes_externally(self) -> bool:
        """Whether another program starts the processes."""
        return True

    @property
    def main_address(self) -> str:
        """The host where all meet."""
        return self._world.address

    @property
    def main_port(self) -> int:
        """The port there."""
        return self._world.port

    @staticmethod
    def detect() -> bool:
        """Return False: it is given, not found."""
        return False

    def world_size(self) -> int:
        """Return how many processes there are."""
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """Do nothing; it is known."""

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing; it is known."""

    def local_rank(self) -> int:
        """Return the number of this process on its host."""
        return self._world.local_rank

    def node_rank(self) -> int:
        """Return the number of the host."""
        return self._world.rank // self._world.local_size


def leave_signals(trainer: Any) -> None:
    """Leave signals to unitrain, which agrees on them after each batch.

    Lightning's handler of SIGTERM sends a tensor at once, in the middle of whatever the others exchange; and its loop
    asks for such tensors before each batch, and swallows the error if another process is gone.

    Args:
        trainer: A new Trainer.
    """
    connector = trainer._signal_connector  # noqa: SLF001 - there is no public way
    connector.register_signal_handlers = connector.teardown = _nothing
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # noqa: SLF001


def _nothing() -> None:
    """Do nothing."""


class TeamStrategy(OnLightning):
    """DDP whose model the shared step wraps.

    Args:
        world: The place of this process.
        timeout: Maximum duration of an exchange.
    """

    stands_on = "DDPStrategy"

    def __init__(self, world: World, timeout: timedelta) -> None:
        environment = self.lightning.made(TeamEnvironment)(world)
        super().__init__(cluster_environment=environment, timeout=timeout)

    def setup_distributed(self) -> None:
        """Take up the process group that is there; Lightning would also reseed."""
        self.set_world_ranks()
        self._process_group_backend = dist.get_backend()
        self.lightning.rank_zero_only.rank = self.global_rank

    def configure_ddp(self) -> None:
        """Leave the wrapping to the shared step."""

    def barrier(self, *_: Any, **__: Any) -> None:
        """Do nothing: unitrain waits where waiting is needed, and a process may reach fewer of Lightning's places."""
