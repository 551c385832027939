"""The progress counters of a run, in the layout of Lightning's checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from unitrain_bridges.lightning.trainer_protocol import ModuleTrainer


class Counters:
    """A node of the tree: counters, further nodes, and whether they were read from a checkpoint.

    The names of the attributes are the keys in a checkpoint, so they are Lightning's.

    Attributes:
        stands_for: The part of Lightning that ``isinstance`` takes it for, as Lightning's own searches ask; "" if none.
        trainer: The trainer that the module sees as ``self.trainer``.

    Args:
        trainer: The same.
    """

    stands_for: ClassVar[str] = ""

    def __init__(self, trainer: ModuleTrainer) -> None:
        self.trainer = trainer
        self._restarting = False
        self._loaded_from_state_dict = False
        self._resuming_from_checkpoint = False
        self._restart_stage = ""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return getattr(self.trainer.parts, self.stands_for) if self.stands_for else type(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Be copied and pickled as an object of its own class."""
        return _empty, (type(self),), vars(self)

    @property
    def restarting(self) -> bool:
        """Whether this continues where a checkpoint was written."""
        return self._restarting

    @restarting.setter
    def restarting(self, restarting: bool) -> None:
        self._restarting = self._restarts(restarting)
        for node in self._nodes().values():
            node.restarting = self._restarting

    def _restarts(self, given: bool) -> bool:
        return given

    @property
    def is_resuming(self) -> bool:
        """Whether a checkpoint has been read and nothing has run since."""
        return self._resuming_from_checkpoint

    def iteration_done(self) -> None:
        """Forget that a checkpoint was read."""
        self._restarting = self._loaded_from_state_dict = self._resuming_from_checkpoint = False
        self._restart_stage = ""

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return the state stored beside the counters."""
        return {}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Restore the state stored beside the counters."""

    def state_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return the tree below this node, flat."""
        found = {f"{prefix}state_dict": self.on_save_checkpoint()}
        for name, value in vars(self).items():
            if isinstance(value, self.trainer.parts.BaseProgress):
                found[prefix + name] = value.state_dict()
            elif isinstance(value, Counters):
                found.update(value.state_dict(f"{prefix}{name}."))
        return found

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Restore the tree below this node; keys that an older version did not write are unchanged."""
        for name, value in vars(self).items():
            if isinstance(value, self.trainer.parts.BaseProgress) and prefix + name in state_dict:
                value.load_state_dict(state_dict[prefix + name])
        if f"{prefix}state_dict" in state_dict:
            self.on_load_checkpoint(state_dict[f"{prefix}state_dict"])
        for name, node in self._nodes().items():
            node.load_state_dict(state_dict, f"{prefix}{name}.")
        self.restarting = True
        self._loaded_from_state_dict = self._resuming_from_checkpoint = True

    def clear(self) -> None:
        """Set all counters below this node to zero."""
        for value in vars(self).values():
            if isinstance(value, self.trainer.parts.BaseProgress):
                value.reset()
        for node in self._nodes().values():
            node.clear()

    def _nodes(self) -> dict[str, Counters]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Counters)}


def _empty(cls: type[Counters]) -> Counters:
    return cls.__new__(cls)


def stopped_at(counters: Any) -> tuple[int, int, int]:
    """Return where between two steps of counting a checkpoint was written: (started, processed, completed) - before."""
    total = counters.total
    return total.started - total.ready, total.processed - total.started, total.completed - total.processed
