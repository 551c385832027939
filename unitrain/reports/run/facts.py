"""What a fit remembers for its report. Keeping it costs nothing; texts are made when they are needed."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unitrain.utilities.secrets import HIDDEN, is_secret, without_secrets
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OBJECT = re.compile(r" at 0x[0-9a-fA-F]+")


class EpochLog:
    """The times and learning rates of the epochs of a fit, a few bytes each.

    Attributes:
        began: When the fit began, by ``time.perf_counter``.
        times: Epoch, steps and seconds of one epoch after another.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.times = array("d")
        self._rates: dict[str, array[float]] = {}

    def rates_at(self, epoch: int, rates: Mapping[str, float]) -> None:
        """Keep the rates that an epoch begins with."""
        for name, value in rates.items():
            if name not in self._rates:
                self._rates[name] = array("d")
            self._rates[name].extend((epoch, value))

    def time_rows(self) -> list[dict[str, float]]:
        """Return ``epoch``, ``steps`` and ``seconds`` of each epoch."""
        found = self.times
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [{"epoch": int(epoch), "steps": int(steps), "seconds": seconds} for epoch, steps, seconds in rows]

    def rate_rows(self) -> list[dict[str, float]]:
        """Return ``epoch`` and the learning rates of each epoch."""
        rows: dict[float, dict[str, float]] = {}
        for name, found in self._rates.items():
            for epoch, value in zip(found[::2], found[1::2], strict=True):
                rows.setdefault(epoch, {"epoch": int(epoch)})[name] = value
        return [rows[epoch] for epoch in sorted(rows)]


@dataclass(frozen=True)
class RunFacts:
    """References to what a fit was given, and its times.

    Attributes:
        config: The trainer's options, or their text.
        spec: What was trained, or its text.
        seed: The seed that was sown.
        seconds: How long the fit took.
        log: The times and learning rates of its epochs, if they were logged.
        device: The device of the model.
        processes: How many processes trained together.
        interrupted: Whether Ctrl-C or SIGTERM stopped it.
    """

    config: Any
    spec: Any
    seed: int | None
    seconds: float
    log: EpochLog | None = None
    device: Any = None
    processes: int = 1
    interrupted: bool = False

    def plain(self) -> RunFacts:
        """Return them without the objects, for a copy or another process."""
        device = None if self.device is None else str(self.device)
        return replace(self, config=config_text(self.config), spec=spec_text(self.spec), device=device)


_KEPT_AS = "_facts"


def remember(result: Any, facts: RunFacts) -> None:
    """Keep facts with the result of a fit, which is frozen for its users."""
    vars(result)[_KEPT_AS] = facts


def facts_of(result: Any) -> RunFacts | None:
    """Return the facts of a result; None if there are none, as in results of old releases."""
    found: RunFacts | None = vars(result).get(_KEPT_AS)
    return found


def config_text(config: Any) -> str:
    """Return the options that are not the defaults, one a line."""
    if isinstance(config, str):
        return config
    names = [one.name for one in fields(config) if config.changed(one.name)]
    return without_secrets("\n".join(f"{name}: {_told(getattr(config, name))}" for name in names))


def spec_text(spec: Any) -> str:
    """Return what was trained, one part a line, and the model's structure."""
    if isinstance(spec, str):
        return spec
    if not is_dataclass(spec):  # a framework's own code
        return "\n".join(_model(spec)) if hasattr(spec, "parameters") else type(spec).__qualname__
    given = {one.name: getattr(spec, one.name) for one in fields(spec) if one.name != "model"}
    lines = [f"{name}: {_told(value)}" for name, value in given.items() if not _is_left_out(value)]
    return without_secrets("\n".join([*_model(getattr(spec, "model", None)), *lines]))


def _model(model: Any) -> Iterator[str]:
    if model is None:
        return
    from torch.nn.parameter import is_lazy  # noqa: PLC0415 - reading a record needs no torch

    parameters = [one for one in model.parameters() if not is_lazy(one)]
    count, trained = sum(map(_size, parameters)), sum(_size(one) for one in parameters if one.requires_grad)
    yield f"model: {type(model).__name__} with {count:,} parameters, {trained:,} of them trained"
    yield from (f"  {line}" for line in _OBJECT.sub("", repr(model)).splitlines())


def _size(parameter: Any) -> int:
    found: int = parameter.numel()
    return found


def _is_left_out(value: Any) -> bool:
    return value is None or value is True or (isinstance(value, (tuple, dict)) and not value)


def _told(value: Any) -> str:
    """Return a value as a person would write it: a partial as a call, a function as its name."""
    if isinstance(value, partial):
        given = [*map(shown, value.args), *(f"{name}={shown(one)}" for name, one in value.keywords.items())]
        return f"{_told(value.func)}({', '.join(given)})"
    if isinstance(value, dict):
        return "".join(f"\n  {name}: {HIDDEN if is_secret(str(name)) else _told(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)) and value:
        return "".join(f"\n  - {_told(one)}" for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = [(one.name, getattr(value, one.name)) for one in fields(value)]
        defaults = {one.name: shown(one.default) for one in fields(value)}
        changed = [f"{name}={_told(one)}" for name, one in parts if shown(one) != defaults[name]]
        return f"{type(value).__name__}({', '.join(changed)})"
    name = getattr(value, "__qualname__", None)
    return name if callable(value) and isinstance(name, str) else shown(value)
