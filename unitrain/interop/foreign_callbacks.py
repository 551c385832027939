"""The callbacks of a run: unitrain's, the backend's own, and wrapped ones of another framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.backends.features import foreign, sorted_callbacks
from unitrain.backends.registry import find_callback
from unitrain.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unitrain.backends.protocol import Adapter


class NativeState(Callback):
    """Keeps the state of a native callback, which its own framework calls, in unitrain's checkpoints.

    Its name is the one that the callback has on other backends, where its bridge stores the state.

    Attributes:
        native: The callback.

    Args:
        home: The name of the callback's backend.
        native: The callback.
    """

    def __init__(self, home: str, native: Any) -> None:
        self.state_key = f"{home}.{type(native).__name__}"
        self.native = native

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the native callback."""
        return dict(self.native.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the native callback."""
        if state:
            self.native.load_state_dict(state)


def _has_state(native: Any) -> bool:
    return all(callable(getattr(native, name, None)) for name in ("state_dict", "load_state_dict"))


class Listeners(NamedTuple):
    """The listeners of a run.

    Attributes:
        own: unitrain's callbacks, wrapped ones of another framework, and the states of native ones.
        native: The spec's callbacks of the backend's framework.
    """

    own: tuple[Callback, ...]
    native: tuple[Any, ...]


class CallbackSet:
    """The callbacks of a trainer; those of another framework are wrapped when a spec is run, each once.

    Code of their own framework uses them directly.

    Attributes:
        native: Callbacks of the backend's framework.

    Args:
        adapter: The backend.
        given: The trainer's callbacks.

    Raises:
        SpecError: If one is not a callback.
    """

    def __init__(self, adapter: Adapter, given: Sequence[Any]) -> None:
        self._adapter = adapter
        self._given = given
        self._adopted: list[tuple[Any, Callback]] = []
        self.native = tuple(self._sorted(given).native)

    def of(self, given: Sequence[Any]) -> Listeners:
        """Return the listeners of a run whose spec has the callbacks ``given``.

        Raises:
            UnsupportedFeatureError: If one works only on its own framework.
            SpecError: If one is not a callback.
        """
        native = self._sorted(given).native
        theirs = (*native, *self.native)
        own = [one for one in (*given, *self._given) if not any(one is other for other in theirs)]
        states = [NativeState(self._adapter.name, one) for one in theirs if _has_state(one)]
        return Listeners((*map(self._own, own), *states), tuple(native))

    def _sorted(self, given: Sequence[Any]) -> Any:
        return sorted_callbacks(self._adapter, given, lambda one: self._found(one) is not None)

    def _own(self, one: Any) -> Callback:
        if isinstance(one, Callback):
            return one
        found = self._found(one)
        if found is None:
            raise foreign(self._adapter, one)
        return found

    def _found(self, one: Any) -> Callback | None:
        """Return the wrapper of ``one``, created by its bridge the first time."""
        known = next((made for native, made in self._adopted if native is one), None)
        if known is not None:
            return known
        made = find_callback(one, self._adapter)
        if made is not None:
            self._adopted.append((one, made))
        return made
