"""Validators of trainer arguments: each returns the parsed value or raises Invalid."""

from __future__ import annotations

import ast
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from unitrain.errors import nearest
from unitrain.utilities.files import user_path
from unitrain.utilities.profiling import SIMPLE, is_profiler

UNLIMITED = -1

_PRECISIONS: dict[Any, str] = {
    **{name: name for name in ("32-true", "64-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed")},
    32: "32-true",
    "32": "32-true",
    64: "64-true",
    "64": "64-true",
    16: "16-mixed",
    "16": "16-mixed",
    "bf16": "bf16-mixed",
}
_OTHER_PRECISIONS: dict[str, str] = {
    **dict.fromkeys(("fp16", "float16", "half", "amp", "mixed", "mixed_float16", "fp16-mixed"), "16-mixed"),
    **dict.fromkeys(("bfloat16", "mixed_bfloat16"), "bf16-mixed"),
    **dict.fromkeys(("fp32", "float32", "float", "full", "single", "no"), "32-true"),
    **dict.fromkeys(("fp64", "float64", "double"), "64-true"),
}
"""Precision names of torch and other trainers."""
_MAX_TIME = re.compile(r"(\d{1,6}):(\d{1,6}):(\d{1,6}):(\d{1,6})")
_MAX_TIME_UNITS = ("days", "hours", "minutes", "seconds")
_MAX_SEED = 2**32 - 1


class Invalid(Exception):  # noqa: N818 - never seen outside: TrainerConfig makes a ConfigError of it
    """A value that is not accepted.

    Args:
        accepted: What is accepted, in words.
        hint: How to fix it, if more specific than the default.
    """

    def __init__(self, accepted: str, hint: str | None = None) -> None:
        super().__init__(accepted)
        self.accepted = accepted
        self.hint = hint


Validator: TypeAlias = Callable[[Any], Any]


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def count(least: int, *others: Any) -> Validator:
    """Accept an integer of at least ``least``, or one of ``others``."""
    wanted = " or ".join([f"an integer of at least {least}", *map(repr, others)])

    def check(value: Any) -> Any:
        if any(
            value is other or (other is not None and type(value) is type(other) and value == other) for other in others
        ):
            return value
        if _integer(value) and value >= least:
            return value
        raise Invalid(wanted)

    return check


def accumulation(value: Any) -> Any:
    """Accept a number of batches; one that changes is a callback's."""
    if isinstance(value, Mapping):
        raise Invalid("an integer of at least 1", f"callbacks=[GradientAccumulationSchedule({dict(value)!r})]")
    return count(1)(value)


def choice(*accepted: Any) -> Validator:
    """Accept one of some values, of the same type."""

    def check(value: Any) -> Any:
        if any(type(value) is type(one) and value == one for one in accepted):
            return value
        raise Invalid(f"one of {', '.join(map(repr, accepted))}", _near(value, accepted))

    return check


_OTHERS = frozenset({"tpu", "hpu", "xpu", "npu", "ipu"})
"""Accelerators that there are elsewhere; none is a misspelt "gpu"."""


def _near(value: Any, accepted: Iterable[Any]) -> str | None:
    """Return a hint that names the one of ``accepted`` that a misspelt ``value`` is like, if one is."""
    if not isinstance(value, str) or value in _OTHERS:
        return None
    near = nearest(value.lower(), [one for one in accepted if isinstance(one, str)])
    return None if near is None else f"did you mean {near!r}?"


def limit(value: Any) -> Any:
    """Accept a number of batches or a fraction."""
    if _integer(value) and value >= 0:
        return value
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value
    raise Invalid(
        "a number of batches (an int of at least 0) or a fraction (a float from 0.0 to 1.0)", "1.0 means all."
    )


def interval(value: Any) -> Any:
    """Accept a number of batches or a fraction, above zero."""
    if (_integer(value) and value >= 1) or (isinstance(value, float) and 0.0 < value <= 1.0):
        return value
    raise Invalid("a number of batches (an int of at least 1) or a fraction of the epoch (0.0 < f <= 1.0)")


def as_number(rule: Validator, value: Any) -> Any:
    """Return the number or switch for ``value``, such as 2 for ``"2"`` and 1000 for 1e3, if ``rule`` accepts it.

    Args:
        rule: The rule that has refused ``value``.
        value: Anything.

    Returns:
        The number or switch; None if ``value`` is none that ``rule`` takes.
    """
    for read in (ast.literal_eval, operator.index, _whole):
        try:
            found = read(value)
            if isinstance(found, (int, float)) and not isinstance(value, bool):
                rule(found)
                return found
        except (Invalid, TypeError, ValueError, SyntaxError, OverflowError, MemoryError, RecursionError):
            continue
    return None


def _whole(value: Any) -> int:
    if not isinstance(value, float) or not value.is_integer():
        raise TypeError
    return int(value)


def fast_dev_run(value: Any) -> Any:
    """Accept a switch or a number of batches."""
    if isinstance(value, bool) or (isinstance(value, int) and value >= 0):
        return value
    raise Invalid("True, False or a number of batches")


def precision(value: Any) -> str:
    """Return the full name of a precision."""
    try:
        return _PRECISIONS[value]
    except (KeyError, TypeError) as error:
        names = sorted({*_PRECISIONS.values()})
        other = _OTHER_PRECISIONS.get(str(value).lower().removeprefix("torch."))
        hint = _near(value, names) if other is None else f"precision={other!r}"
        raise Invalid(f"one of {', '.join(map(repr, names))}", hint) from error


def clip(value: Any) -> float | None:
    """Return a limit of gradients; None and 0 are none."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value) or None
    raise Invalid("None or a finite number of at least 0")


def max_time(value: Any) -> timedelta | None:
    """Return a duration."""
    if value is None:
        return None
    duration = value
    if isinstance(value, str) and (match := _MAX_TIME.fullmatch(value)):
        duration = _timedelta(dict(zip(_MAX_TIME_UNITS, map(int, match.groups()), strict=True)))
    elif isinstance(value, Mapping):
        duration = _timedelta(value)
    if isinstance(duration, timedelta) and duration > timedelta(0):
        return duration
    raise Invalid('a positive "DD:HH:MM:SS", timedelta or mapping of its keywords', '"00:12:00:00"')


def _timedelta(keywords: Mapping[str, Any]) -> timedelta:
    try:
        return timedelta(**keywords)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid("the keywords of datetime.timedelta", '{"minutes": 30}') from error


def devices(value: Any) -> Any:
    """Accept a number of devices, their indices, or all."""
    if isinstance(value, str) and re.fullmatch(r"auto|-1|[1-9]\d{0,5}", value):
        return value if value == "auto" else int(value)
    if _integer(value) and (value >= 1 or value == UNLIMITED):
        return value
    if isinstance(value, (list, tuple)) and value and all(_integer(one) and one >= 0 for one in value):
        return list(value)
    raise Invalid('a number of devices, a list of their indices, "auto" or -1 (all)')


def either(rule: Validator, kind: type[Any]) -> Validator:
    """Accept an object of ``kind``, or what ``rule`` accepts."""

    def check(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        try:
            return rule(value)
        except Invalid as refusal:
            raise Invalid(f"{refusal.accepted} or a {kind.__name__}", refusal.hint) from None

    return check


def path(value: Any) -> Path:
    """Return a path."""
    if isinstance(value, (str, Path)):
        return user_path(value)
    raise Invalid("a path")


def sequence(value: Any) -> tuple[Any, ...]:
    """Return a tuple."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    raise Invalid("a sequence", _as_sequence(value))


def _as_sequence(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "an empty list, [], means none."
    if isinstance(value, Mapping):
        return "a list of its values: list(mapping.values())"
    if isinstance(value, Iterable) and not isinstance(value, (str, type)):
        return "make a list of it: list(...)"
    inside = "..." if isinstance(value, str) else f"{(value if isinstance(value, type) else type(value)).__name__}(...)"
    return f"put it in a list: [{inside}]"


class NotGiven(tuple[Any, ...]):
    """No trackers, since nobody said so: a framework's own code then keeps its framework's default."""

    __slots__ = ()


def trackers(value: Any) -> tuple[Any, ...]:
    """Accept a sequence of objects that take rows."""
    if isinstance(value, NotGiven):
        return value
    if isinstance(value, str):
        raise Invalid("a sequence of loggers, not a name", 'loggers=[CSVLogger("runs")]')
    found = sequence(value)
    if all(_takes_rows(one) and not isinstance(one, type) for one in found):
        return found
    raise Invalid(
        "a sequence of objects with log_metrics(metrics, step) or push_metrics(dict), or of loggers of an installed"
        " framework",
        'loggers=[CSVLogger("runs")], or loggers=[MyClient()] with a method push_metrics(dict).',
    )


def _takes_rows(one: Any) -> bool:
    return any(callable(getattr(one, method, None)) for method in ("log_metrics", "log_batch"))


def profiler(value: Any) -> Any:
    """Accept the one that is built in, one of torch's, or what makes one."""
    if value is None or (isinstance(value, str) and value == SIMPLE) or is_profiler(value):
        return value
    if callable(value) and not isinstance(value, str):
        return value
    raise Invalid(
        'None, "simple", a torch.profiler.profile or a function that returns one',
        'profiler="simple"; one of Lightning\'s: native={"lightning": {"profiler": ...}}, for a run on Lightning.',
    )


def native(value: Any) -> Any:
    """Accept a mapping of names to mappings of arguments."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(_named(one) for one in value.values()) and _named(value):
        return {name: dict(arguments) for name, arguments in value.items()}
    raise Invalid("a mapping of framework names to mappings of arguments", '{"lightning": {...}}')


def _named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


switch = choice(True, False)


def seed(value: Any) -> Any:
    """Accept a seed that every generator takes."""
    if value is None or (_integer(value) and 0 <= value <= _MAX_SEED):
        return value
    raise Invalid(f"None or an integer from 0 to {_MAX_SEED}")
