"""Combines several training loaders in parallel or in sequence."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from unitrain.data.loaders import Loader, check_loader, generators_of, holds_loaders, trusted_length
from unitrain.data.own_random import OwnRandom
from unitrain.data.position import Position, Positioned, going_on, keeper, kept_state
from unitrain.data.workers import Workers
from unitrain.errors import DataError
from unitrain.utilities.rng import RngSnapshot

Mode: TypeAlias = Literal["min_size", "max_size_cycle", "max_size", "sequential"]


class CombinedLoader(Loader, Positioned):
    """Combines loaders on every backend, like Lightning's class of that name.

    A batch has the structure of ``loaders`` with a batch in place of each loader; with ``"sequential"`` it is one
    loader's batch. A fit resumed within an epoch continues where each loader was.

    Args:
        loaders: A mapping of names to loaders, or a list of loaders; mappings may be nested.
        mode: ``"min_size"`` ends with the shortest loader, ``"max_size_cycle"`` with the longest and starts the others
            again, ``"max_size"`` ends with the longest and gives None for the others, ``"sequential"`` reads one loader
            after the other.

    Attributes:
        loaders: The given loaders.
        mode: The given mode.
        members: The loaders in order.

    Raises:
        DataError: If there are no loaders, one of them is not a loader, or the mode is unknown.

    Example:
        >>> both = CombinedLoader({"a": [1, 2, 3], "b": [10, 20]}, mode="max_size_cycle")
        >>> list(both)
        [{'a': 1, 'b': 10}, {'a': 2, 'b': 20}, {'a': 3, 'b': 10}]
        >>> len(both)
        3
    """

    def __init__(self, loaders: Any, mode: Mode = "min_size") -> None:
        if mode not in get_args(Mode):
            raise DataError(
                f"CombinedLoader got an unknown mode {mode!r}.", hint=f"one of {', '.join(map(repr, get_args(Mode)))}."
            )
        if not isinstance(loaders, (Mapping, list, tuple)) or not loaders:
            raise DataError(
                f"CombinedLoader takes a mapping of names to loaders, or a list of loaders; got {_short(loaders)}.",
                hint='CombinedLoader({"a": loader, "b": loader})',
            )
        self.loaders = loaders
        self.mode = mode
        named = dict(_named(loaders))
        for name, loader in named.items():
            check_loader(loader, "combined", name)
        self.members = list(named.values())
        self._pending: dict[str, Any] | None = None
        self._running: _Combined | None = None

    def __len__(self) -> int:
        """Return the number of batches.

        Raises:
            TypeError: If a loader's length is unknown.
        """
        lengths = [trusted_length(one) for one in self.members]
        known = [one for one in lengths if one is not None]
        if len(known) < len(lengths):
            raise TypeError("a loader has no length that can be trusted")
        if self.mode == "sequential":
            return sum(known)
        return min(known) if self.mode == "min_size" else max(known)

    def __iter__(self) -> Iterator[Any]:
        pending, self._pending = self._pending, None
        running: _Combined = _MODES[self.mode](self, pending)
        self._running = running
        return running

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the running iteration: it cannot be sent to another process."""
        return {**vars(self), "_running": None}

    def mapped(self, change: Callable[[Any], Any]) -> CombinedLoader:
        """Return a combination with ``change`` applied to each loader."""
        return CombinedLoader(_rebuilt(self.loaders, map(change, self.members)), self.mode)

    def in_form(self, batches: list[Any]) -> Any:
        """Return one batch of each loader in the structure of ``loaders``."""
        return _rebuilt(self.loaders, iter(batches))

    def keeper(self, *, midway: bool) -> Any:
        """Return the object with the position's state: within an epoch this one, between epochs that of the loaders."""
        if midway:
            return self
        return _Between(self) if any(keeper(one, midway=False) is not None for one in self.members) else None

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the running epoch in each loader."""
        return {} if self._running is None else self._running.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin the next iteration where ``state_dict`` was called."""
        if state:
            _require_as_many(state, self.members)
        self._pending = state or None


def _require_as_many(state: dict[str, Any], members: Sequence[Any]) -> None:
    if len(state["members"]) != len(members):
        raise DataError(
            f"the position of {len(state['members'])} combined loaders is not one of {len(members)}.",
            hint="resume with the original data, or from a checkpoint written at the end of an epoch.",
        )


class _Between:
    """The state of the loaders between epochs."""

    def __init__(self, combined: CombinedLoader) -> None:
        self._members = combined.members

    def state_dict(self) -> dict[str, Any]:
        return {"members": [kept_state(one, midway=False) for one in self._members]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _require_as_many(state, self._members)
        for one, kept in zip(self._members, state["members"], strict=True):
            if kept is not None:
                keeper(one, midway=False).load_state_dict(copy.deepcopy(kept))


class _Member:
    """The iteration state of one loader in an epoch.

    Attributes:
        consumed: Whether it has reached its end at least once.

    Args:
        loader: The loader to read.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._workers = Workers()
        self._iterator: Iterator[Any] = iter(())
        self._taken = 0
        self._at_iter = self._at_first = RngSnapshot(generators_of(loader))
        self.consumed = self._over = False

    def begin(self) -> None:
        """Start from the beginning."""
        self._at_iter = RngSnapshot(generators_of(self._loader), OwnRandom([self._loader]))
        self._iterator = self._workers.watch(iter(self._loader))
        self._taken, self._over = 0, False

    def next(self) -> Any:
        """Return the next batch.

        Raises:
            StopIteration: At the end of the loader.
        """
        if not self._taken:
            self._at_first = RngSnapshot(generators_of(self._loader))
        try:
            batch = next(self._iterator)
        except StopIteration:
            self.consumed = self._over = True
            raise
        self._taken += 1
        return batch

    def close(self) -> None:
        """End the loader's workers."""
        self._workers.close(self._loader)

    def state_dict(self) -> dict[str, Any]:
        return {
            "taken": self._taken,
            "consumed": self.consumed,
            "over": self._over,
            "at_iter": self._at_iter.state_dict(),
            "at_first": self._at_first.state_dict() if self._taken else None,
            "own": kept_state(self._loader, midway=True),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin where ``state_dict`` was called. This changes the random states, which the caller restores."""
        generators = generators_of(self._loader)
        self._taken, self.consumed, self._over = state["taken"], state["consumed"], state["over"]
        self._at_iter = RngSnapshot.from_state_dict(state["at_iter"], generators, OwnRandom([self._loader]))
        if state["at_first"] is not None:
            self._at_first = RngSnapshot.from_state_dict(state["at_first"], generators)
        if self._over:
            return
        self._at_iter.restore()
        start = Position(
            skip=self._taken,
            at_iter=self._at_iter,
            at_first=self._at_first if self._taken else None,
            before_ahead=None,
            now=self._at_first,
            loader=state["own"],
        )
        self._iterator = going_on(self._loader, start, self._workers)


class _Combined(Iterator[Any]):
    """One iteration of a CombinedLoader.

    Args:
        combined: The loader to iterate.
        state: The state to resume; None for the beginning.
    """

    def __init__(self, combined: CombinedLoader, state: dict[str, Any] | None) -> None:
        self._combined = combined
        self._members = [_Member(one) for one in combined.members]
        self._current = 0
        if state is None:
            self._begin()
            return
        self._current = state["current"]
        for member, one in zip(self._members, state["members"], strict=True):
            if one is not None:
                member.load_state_dict(one)

    def _begin(self) -> None:
        for member in self._members:
            member.begin()

    def state_dict(self) -> dict[str, Any]:
        """Return the position of each loader."""
        return {"current": self._current, "members": [member.state_dict() for member in self._members]}

    def _shutdown_workers(self) -> None:
        for member in self._members:
            member.close()


class _MinSize(_Combined):
    def __next__(self) -> Any:
        return self._combined.in_form([member.next() for member in self._members])


class _MaxSize(_Combined):
    def __next__(self) -> Any:
        batches = [_or_none(member) for member in self._members]
        if all(member.consumed for member in self._members):
            raise StopIteration
        return self._combined.in_form(batches)


def _or_none(member: _Member) -> Any:
    try:
        return None if member.consumed else member.next()
    except StopIteration:
        return None


class _MaxSizeCycle(_Combined):
    def __next__(self) -> Any:
        return self._combined.in_form([self._next_of(member) for member in self._members])

    def _next_of(self, member: _Member) -> Any:
        try:
            return member.next()
        except StopIteration:
            if all(one.consumed for one in self._members):
                raise
        member.begin()
        return member.next()


class _Sequential(_Combined):
    def _begin(self) -> None:
        self._members[0].begin()

    def state_dict(self) -> dict[str, Any]:
        running = self._members[: self._current + 1][-1]
        states = [member.state_dict() if member is running else None for member in self._members]
        return {"current": self._current, "members": states}

    def __next__(self) -> Any:
        while self._current < len(self._members):
            try:
                return self._members[self._current].next()
            except StopIteration:
                self._current += 1
                if self._current < len(self._members):
                    self._members[self._current].begin()
        raise StopIteration


_MODES: dict[str, type[Any]] = {
    "min_size": _MinSize,
    "max_size": _MaxSize,
    "max_size_cycle": _MaxSizeCycle,
    "sequential": _Sequential,
}


def combined(given: Any) -> Any:
    """Return the training data: several loaders are combined with ``"max_size_cycle"``, as in Lightning.

    Args:
        given: The user's data; Lightning's own CombinedLoader is converted to unitrain's.

    Raises:
        DataError: If it is unclear whether a list holds loaders or batches, or one of them is not a loader.
    """
    if _is_lightnings(given):
        return _of_lightning(given)
    if isinstance(given, Mapping) or holds_loaders(given, "train"):
        return CombinedLoader(given, "max_size_cycle")
    return given


def separated(given: Any) -> Any:
    """Return the evaluation data: a sequential CombinedLoader becomes several loaders, each measured separately."""
    if _is_lightnings(given):
        given = _of_lightning(given)
    return given.loaders if isinstance(given, CombinedLoader) and given.mode == "sequential" else given


def _is_lightnings(given: Any) -> bool:
    return type(given).__name__ == "CombinedLoader" and all(
        hasattr(given, name) for name in ("iterables", "flattened", "limits", "_mode")
    )


def _of_lightning(given: Any) -> CombinedLoader:
    if given.limits is not None:
        raise DataError(
            f"the CombinedLoader has limits={given.limits!r}.", hint="limit_train_batches= or limit_val_batches="
        )
    return CombinedLoader(given.iterables, given._mode)  # noqa: SLF001 - there is no public way


def _named(loaders: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the loaders with their names, such as ``a.b`` in nested mappings."""
    pairs = loaders.items() if isinstance(loaders, Mapping) else enumerate(loaders)
    for key, one in pairs:
        name = f"{prefix}{key}"
        if isinstance(one, Mapping):
            yield from _named(one, f"{name}.")
        else:
            yield name, one


def _rebuilt(loaders: Any, values: Iterator[Any]) -> Any:
    """Return ``loaders`` with each loader replaced by the next of ``values``."""
    if isinstance(loaders, Mapping):
        return {
            key: _rebuilt(one, values) if isinstance(one, Mapping) else next(values) for key, one in loaders.items()
        }
    parts = [_rebuilt(one, values) if isinstance(one, Mapping) else next(values) for one in loaders]
    return parts if isinstance(loaders, list) else tuple(parts)


def _short(given: Any) -> str:
    return f"an empty {type(given).__name__}" if isinstance(given, (Mapping, list, tuple)) else type(given).__name__
