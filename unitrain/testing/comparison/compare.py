"""``unitrain.compare``: the same training several times, bit by bit."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.registry import adapter_names, find_adapter
from unitrain.config import TrainerConfig
from unitrain.errors import BackendNotInstalledError, ConfigError, complete_call, refuse_unknown
from unitrain.testing.comparison.checkpoints import compare_files
from unitrain.testing.comparison.engine import Contest, Entrant
from unitrain.testing.comparison.saved import require_place
from unitrain.testing.comparison.side import Program, is_loop
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unitrain.backends.registry import Framework
    from unitrain.testing.comparison.comparison import Comparison

_FIRST = "reference"
"""The backend that the others are compared with, unless it is said otherwise."""
_TWO = 2
_LONGEST = 10**6
"""Seconds: no system waits much longer."""


@complete_call(ConfigError, "unitrain.compare(make)")
def compare(
    make: Callable[[], Any] | str | Path,
    other: Callable[[], Any] | str | Path | None = None,
    *,
    frameworks: Sequence[Framework] | None = None,
    trainer: Mapping[str, Any] | None = None,
    seed: int = 0,
    steps: int | None = None,
    bisect: str | Path | None = None,
    overwrite: bool = False,
    timeout: float | None = None,
) -> Comparison:
    """Train the same program on several backends, or two programs, or read two checkpoints, and compare all bits.

    Each side runs in a process of its own and is compared with the first one, step by step: batches and random states,
    the model's input and output, the loss, gradients, weights, the optimizer's state, events, logged values and
    metrics. A side stops at its first difference. Two values are equal if they have the same type, shape and bits; NaN
    equals NaN.

    Args:
        make: A function that takes nothing and returns ``(spec, train)``, ``(spec, train, val)`` or ``(spec, train,
            val, options)``, with options of ``UnifiedTrainer``; the spec may be unchanged code of a framework. Or a
            hand-written loop: a function that returns an
            iterator, which yields after each optimizer step its model, or a mapping with ``"model"`` and optionally
            ``"loss"`` and ``"batch"``. Other processes import it, from a script too: define it at module level.
            Generators are seeded before it is called. Or the path of a checkpoint.
        other: A second program, or a second checkpoint.
        frameworks: The backends; by default all that are installed, the reference first, or the reference alone for
            two programs. One that is named twice shows whether its runs repeat themselves.
        trainer: Options of ``UnifiedTrainer`` for all sides, which take precedence over the program's own. Trackers
            are left out, and ``default_root_dir`` is a temporary folder.
        seed: Sown before each program is called; ``trainer={"seed": 0}`` also seeds when the fit starts.
        steps: Number of optimizer steps to compare at most; by default all.
        bisect: A folder for the tensors of the step that differs, of the one before and of the one after, as
            ``.safetensors`` files.
        overwrite: Whether files in ``bisect`` may be replaced.
        timeout: Seconds that a side may take, from when its program is called; one that takes longer is stopped and has
            failed. By default there is no limit.

    Returns:
        The comparison. A side that raised an error, was killed or did not end in time is in it, with its error.

    Raises:
        ConfigError: If there is nothing to compare, an argument is invalid, or a program cannot be sent to a process.
        BackendNotInstalledError: If a framework is not installed.

    Example:
        >>> torch.save({"weight": torch.tensor([0.5, 1.0])}, "a.pt")
        >>> torch.save({"weight": torch.tensor([0.5, 1.0000001])}, "b.pt")
        >>> print(compare("a.pt", "b.pt"))
        different: b.pt differs from a.pt
        <BLANKLINE>
        a.pt and b.pt: weights
          tensor    weight[1], float32 (2,)
          a.pt      1           0x3f800000
          b.pt      1.00000012  0x3f800001
          distance  1 ulp; 1 of 2 elements differ, at most 1 ulp
          cause     the weights differ
    """
    if not callable(make):
        return _files(make, other, frameworks=frameworks, trainer=trainer, steps=steps, bisect=bisect, timeout=timeout)
    programs = [make] if other is None else [make, other]
    for one in programs:
        if not callable(one):
            raise ConfigError(
                f"compare() takes two programs or two checkpoints; got a function and {one!r}.",
                hint="compare(make, make_loop), or compare('a.ckpt', 'b.ckpt').",
            )
    refuse_unknown(trainer or {}, TrainerConfig.__dataclass_fields__, "compare(trainer=)", ConfigError)
    _require_act(trainer or {})
    _require_count(steps)
    _require_time(timeout)
    names = _frameworks(frameworks, several=len(programs) > 1)
    folder = None if bisect is None else user_path(bisect)
    if folder is not None:
        require_place(folder, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="unitrain-compare-") as place:
        run = _Run(Path(place), trainer or {}, seed, alone=len(programs) == 1, several=len(names) > 1)
        entrants = _numbered([run.entrant(one, name, programs) for one, name in _pairs(programs, names)])
        _require_two(entrants, programs)
        return Contest(entrants, Path(place), steps=steps, bisect=folder, overwrite=overwrite, timeout=timeout).result()


@dataclass(frozen=True)
class _Run:
    """What all sides share.

    Attributes:
        folder: A folder for what they write.
        trainer: Options of the trainer.
        seed: The seed.
        alone: Whether there is one program.
        several: Whether there are several backends.
    """

    folder: Path
    trainer: Mapping[str, Any]
    seed: int
    alone: bool
    several: bool

    def entrant(self, number: int, framework: Framework | None, programs: Sequence[Any]) -> Entrant:
        """Return a side that is to run: one of the programs on one of the backends."""
        make = programs[number]
        program = Program(
            make=make,
            framework=framework,
            trainer=self.trainer,
            seed=self.seed,
            threads=torch.get_num_threads(),
            folder=self.folder,
        )
        backend = None if framework is None else find_adapter(framework).name
        title = _title(make, programs)
        if self.alone:
            return Entrant(backend or title, backend, program, number)
        return Entrant(f"{title} on {backend}" if self.several and backend else title, backend, program, number)


def _pairs(programs: Sequence[Any], names: Sequence[Framework]) -> list[tuple[int, Framework | None]]:
    """Return the number of each program with each backend; a loop needs none."""
    return [
        (number, name if not is_loop(make) else None)
        for (number, make), (index, name) in product(enumerate(programs), enumerate(names))
        if not (is_loop(make) and index)
    ]


def _numbered(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the sides with a number in the name of one that is there again: does a run repeat itself?"""
    names = [one.name for one in entrants]
    times = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [
        replace(one, name=f"{one.name} ({time})") if time > 1 else one
        for one, time in zip(entrants, times, strict=True)
    ]


def _title(make: Any, programs: Sequence[Any]) -> str:
    """Return the name of a program, with its module if the other one has the same name."""
    names = [getattr(one, "title", None) or getattr(one, "__qualname__", type(one).__name__) for one in programs]
    own = next(name for name, one in zip(names, programs, strict=True) if one is make)
    modules = {getattr(one, "__module__", "") for one in programs}
    return f"{make.__module__}.{own}" if names.count(own) > 1 and len(modules) > 1 else str(own)


def _require_two(entrants: Sequence[Entrant], programs: Sequence[Any]) -> None:
    if len(entrants) < _TWO:
        only = entrants[0].name
        raise ConfigError(
            f"there is one side only: {only}.",
            hint="compare(make, make_loop)."
            if is_loop(programs[0])
            else f"frameworks={adapter_names()!r}, or a second program.",
        )


def _require_act(trainer: Mapping[str, Any]) -> None:
    for name in ("loggers", "default_root_dir"):
        if name in trainer:
            raise ConfigError(
                f"compare(trainer=) got {name!r}: a side writes no logs, and other files into a temporary folder.",
                hint="remove it.",
            )


def _require_count(steps: Any) -> None:
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise ConfigError(f"steps must be a positive integer; got {steps!r}.", hint="steps=100")


def _require_time(timeout: Any) -> None:
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < timeout <= _LONGEST):
        raise ConfigError(
            f"timeout must be a number of seconds, more than 0 and at most {_LONGEST}; got {timeout!r}.",
            hint="timeout=600",
        )


def _frameworks(given: Any, *, several: bool) -> list[Framework]:
    """Return the backends.

    Raises:
        ConfigError: If one is unknown, or none is given.
        BackendNotInstalledError: If one is not installed.
    """
    if given is None:
        return [_FIRST] if several else _installed()
    found = [given] if isinstance(given, str) or hasattr(given, "build") else list(given)
    if not found:
        raise ConfigError("frameworks is empty.", hint=f"frameworks={adapter_names()!r}")
    for one in found:
        find_adapter(one)
    return found


def _installed() -> list[Framework]:
    """Return the installed backends, the reference first."""
    found: list[Framework] = []
    for name in sorted(adapter_names(), key=lambda one: one != _FIRST):
        with suppress(BackendNotInstalledError):
            find_adapter(name)
            found.append(name)
    return found


def _files(make: Any, other: Any, **rest: Any) -> Comparison:
    """Compare two checkpoints.

    Raises:
        ConfigError: If there is only one, or something is given that has no effect on files.
    """
    if not all(isinstance(one, (str, os.PathLike)) for one in (make, other)):
        raise ConfigError(
            f"compare() takes one or two functions, or two checkpoints; got {make!r} and {other!r}.",
            hint="compare(make), compare(make, make_loop), or compare('a.ckpt', 'b.ckpt').",
        )
    given = [name for name, value in rest.items() if value is not None]
    if given:
        raise ConfigError(f"{given[0]} has no effect on two checkpoints.", hint="remove it.")
    return compare_files(user_path(make), user_path(other))
