"""Seeds the global random number generators, and preserves their state around evaluations.

Training draws from them in the order of a hand-written loop (data first, then the step). Evaluation restores them: its
loader, model and handlers may draw anything, so enabling validation does not change the training.
"""

from __future__ import annotations

import copy
import random
import sys
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NUMPY_SEEDS = 2**32
_MAX_SEED = 2**64 - 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy (if it is imported) and torch, on every device.

    ``UnifiedTrainer(seed=)`` does the same when a run starts, so it covers only draws within the run: the order of the
    data, dropout, augmentation. A model's initial weights and data splits are drawn earlier. Call this function at the
    top of a script to make the whole script reproducible on every backend.

    Args:
        seed: A non-negative integer.

    Raises:
        ConfigError: If ``seed`` is invalid.

    Example:
        >>> import torch
        >>> seed_everything(0)
        >>> first = torch.rand(2)
        >>> seed_everything(0)
        >>> torch.equal(torch.rand(2), first)
        True
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= _MAX_SEED:
        raise ConfigError(f"seed must be an integer from 0 to {_MAX_SEED}; got {seed!r}.", hint="seed_everything(0)")
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % _NUMPY_SEEDS)
    torch.manual_seed(seed)


class Own(Protocol):
    """Generators of any library in the parts of a loader, by place."""

    def states(self) -> dict[str, Any]:
        """Return their kinds and states."""

    def put_back(self, saved: Mapping[str, Any]) -> None:
        """Set them to these states."""


@contextmanager
def preserved_rng(generators: Iterable[torch.Generator] = (), own: Own | None = None) -> Iterator[None]:
    """Restore the global generators and the given ones on exit.

    Args:
        generators: Further generators to preserve; a loader may share its own with another loader.
        own: Generators in the parts of a loader.
    """
    saved = RngSnapshot(generators, own)
    try:
        yield
    finally:
        saved.restore()


class RngSnapshot:
    """The states of the global generators and of some others at one moment.

    Args:
        generators: Further generators to remember.
        own: Generators in the parts of a loader.
    """

    def __init__(self, generators: Iterable[torch.Generator] = (), own: Own | None = None) -> None:
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy: Any = None if numpy is None else numpy.random.get_state()
        self._cpu = torch.get_rng_state()
        # of the device of this process; to ask the others would take memory on each
        initialized = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._cuda = [torch.cuda.get_rng_state()] if initialized else []
        self._others = [(generator, generator.get_state()) for generator in generators]
        self._parts = own
        self._own = {} if own is None else own.states()

    def state_dict(self) -> dict[str, Any]:
        """Return the states as tensors and plain values, for a checkpoint."""
        version, words, gauss = self._python
        numpy = None
        if self._numpy is not None:
            name, keys, position, has_gauss, cached = self._numpy
            numpy = [name, _as_tensor(keys), int(position), int(has_gauss), float(cached)]
        return {
            "python": [version, _as_tensor(words), gauss],
            "numpy": numpy,
            "cpu": self._cpu,
            "cuda": list(self._cuda),
            "others": [state for _, state in self._others],
            **({"own": self._own} if self._own else {}),
        }

    @classmethod
    def from_state_dict(
        cls,
        state: dict[str, Any],
        generators: Iterable[torch.Generator] = (),
        own: Own | None = None,
    ) -> RngSnapshot:
        """Return a snapshot from ``state``, with the generators that exist in both.

        The data may have changed, or create a generator only when read; further generators are not changed.

        Args:
            state: The result of ``state_dict``.
            generators: Further generators, in order; unchanged unless there are as many as before.
            own: Generators in the parts of a loader.
        """
        snapshot = cls(generators, own)
        snapshot._load(state)
        return snapshot

    def _load(self, state: dict[str, Any]) -> None:
        version, words, gauss = state["python"]
        self._python = (version, tuple(_as_list(words)), gauss)
        self._numpy = None
        if state["numpy"] is not None:
            name, keys, *rest = state["numpy"]
            self._numpy = (name, _as_list(keys), *rest)
        self._cpu = state["cpu"]
        self._cuda = state["cuda"]
        others = state["others"] if len(state["others"]) == len(self._others) else ()
        pairs = zip(self._others, others, strict=False)
        self._others = [(one, saved) for (one, now), saved in pairs if now.shape == saved.shape]  # on the same device
        self._own = state.get("own", {})  # not in what an older release wrote

    def restore(self) -> None:
        """Restore every generator."""
        random.setstate(self._python)
        if self._numpy is not None and "numpy" in sys.modules:
            sys.modules["numpy"].random.set_state(self._numpy)
        torch.set_rng_state(self._cpu)
        if self._cuda:
            torch.cuda.set_rng_state(self._cuda[0])
        for generator, state in self._others:
            generator.set_state(state)
        if self._parts is not None:
            self._parts.put_back(self._own)


def _as_tensor(words: Any) -> torch.Tensor:
    """Return the words of a generator, NumPy's array or a sequence, as a tensor; a list is pickled number by number."""
    if hasattr(words, "astype"):
        return torch.from_numpy(words.astype("int64"))
    return torch.frombuffer(array("q", words), dtype=torch.int64)


def _as_list(words: torch.Tensor | list[int]) -> list[int]:
    """Return the words of a generator; format 1 wrote a list."""
    return words.tolist() if isinstance(words, torch.Tensor) else words


def maybe_generators() -> tuple[type[Any], ...]:
    """Return the generator classes of Python, torch and, if imported, NumPy."""
    numpy = sys.modules.get("numpy")
    of_numpy = () if numpy is None else (numpy.random.Generator, numpy.random.RandomState)
    return (random.Random, torch.Generator, *of_numpy)


def global_generators() -> list[Any]:
    """Return the global generators, which every ``RngSnapshot`` includes."""
    numpy = sys.modules.get("numpy")
    read: list[Any] = [random.getstate] if numpy is None else [random.getstate, numpy.random.get_state]
    return [*(one.__self__ for one in read), torch.default_generator, *torch.cuda.default_generators]


def kind_of(one: Any) -> str | None:
    """Return the kind of generator of ``one``, or None if it is not one, or its state cannot be read."""
    kind = type(one)
    if issubclass(kind, random.Random):  # a subclass may have another state, or none, as SystemRandom
        plain = (kind.getstate, kind.setstate) == (random.Random.getstate, random.Random.setstate)
        name = "random.Random" if kind is random.Random else f"random.Random({kind.__qualname__})"
        return name if plain else None
    if kind is torch.Generator:
        return f"torch.Generator({one.device.type})"
    numpy = sys.modules.get("numpy")
    if numpy is None or kind not in (numpy.random.Generator, numpy.random.RandomState):
        return None
    bits = type(one.bit_generator if kind is numpy.random.Generator else one._bit_generator)  # noqa: SLF001 - there is no public way
    legacy_state = kind is numpy.random.Generator or bits is numpy.random.MT19937  # the others' is not a tuple
    return f"{kind.__name__}({bits.__name__})" if legacy_state and bits.__module__.startswith("numpy.random") else None


def made(kind: str, state: Any) -> Any:
    """Return a new generator of ``kind`` in ``state``; None if it cannot be created here."""
    name, _, detail = kind.rstrip(")").partition("(")
    numpy = sys.modules.get("numpy")
    one: Any = None
    if kind == "random.Random":
        one = random.Random()  # noqa: S311 - not for secrets
    elif name == "torch.Generator" and (detail == "cpu" or (detail == "cuda" and torch.cuda.is_available())):
        one = torch.Generator(detail)
    elif numpy is not None and name in ("Generator", "RandomState") and detail in _BITS:
        one = getattr(numpy.random, name)(getattr(numpy.random, detail)())
    if one is not None:
        put(one, state)
    return one


_BITS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
"""NumPy's sources of bits."""


def state_of(generator: Any) -> Any:
    """Return the state of a generator of Python, NumPy or torch, as tensors and plain values."""
    if isinstance(generator, random.Random):
        version, words, gauss = generator.getstate()
        return [version, _as_tensor(words), gauss]
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    numpy = sys.modules["numpy"]
    if isinstance(generator, numpy.random.Generator):
        return copy.deepcopy(generator.bit_generator.state)
    return list(generator.get_state())


def put(generator: Any, state: Any) -> None:
    """Set a generator of Python, NumPy or torch to ``state``, as returned by ``state_of``."""
    if isinstance(generator, random.Random):
        version, words, gauss = state
        generator.setstate((version, tuple(_as_list(words)), gauss))
    elif isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, sys.modules["numpy"].random.Generator):
        generator.bit_generator.state = copy.deepcopy(state)
    else:
        generator.set_state(tuple(state))
