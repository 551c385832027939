"""What a script did, told without a word of any framework; two runs did the same if their traces are equal."""

from __future__ import annotations

import hashlib
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

if TYPE_CHECKING:
    from pathlib import Path

LOOPS = {
    # the functions within which an engine trains: (the end of the file's path, the function) -> the engine
    ("loops/fit_loop.py", "run"): "lightning",
    ("ignite/engine/engine.py", "_internal_run_as_gen"): "ignite",
    ("ignite/engine/engine.py", "_internal_run_legacy"): "ignite",
    ("unitrain/testing/reference.py", "run"): "reference",
}

LOOKS = frozenset({"__len__", "<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>", "<module>"})
"""Functions of a script that change nothing by being called: an engine may look as often as it likes."""


class Step(NamedTuple):
    """One step of an optimizer."""

    weights: str
    rates: tuple[float, ...]

    def __str__(self):
        return f"step to {self.weights[:8]} at lr {', '.join(f'{rate:.6g}' for rate in self.rates)}"


@dataclass
class Trace:
    """What a script did.

    Attributes:
        events: What happened, in its order: each ``Step``, each call of a function of the script by its name, and each
            line that was printed.
        files: What was written: the file's name without what is volatile, and what is in it.
        error: The type and the message of the exception that ended it; None if none did.
        rng: Where the random generators stood at its end.
        engines: Which engines' loops each optimizer's step ran in; not part of what has to be equal.
    """

    events: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    error: tuple[str, str] | None = None
    rng: str = ""
    engines: list[frozenset] = field(default_factory=list)

    @property
    def steps(self):
        return [event for event in self.events if isinstance(event, Step)]


def difference(wanted: Trace, got: Trace) -> str:
    """Return where two traces part, in words; empty if they are equal in all but the engine."""
    for index, (one, other) in enumerate(zip(wanted.events, got.events, strict=False)):
        if one != other:
            before = "".join(f"\n    {event}" for event in wanted.events[max(0, index - 6) : index])
            after = [" | ".join(map(str, trace.events[index : index + 6])) for trace in (wanted, got)]
            return f"event {index}:{before}\n  wanted: {after[0]}\n  got:    {after[1]}"
    if len(wanted.events) != len(got.events):
        lengths = len(wanted.events), len(got.events)
        more = max(wanted.events, got.events, key=len)[min(lengths) :][:8]
        return f"{lengths[0]} events wanted, {lengths[1]} got; the others: {' | '.join(map(str, more))}; {got.error}"
    for one in fields(Trace):
        a, b = getattr(wanted, one.name), getattr(got, one.name)
        if one.name != "engines" and a != b:
            return f"{one.name}: {_parted(a, b) if isinstance(a, dict) else f'wanted {a!r}, got {b!r}'}"
    return ""


def _parted(a: dict, b: dict) -> str:
    lines = [
        f"\n  {key}: {_parted(a[key], b[key]) if isinstance(a.get(key), dict) and isinstance(b.get(key), dict) else f'wanted {_short(a, key)}, got {_short(b, key)}'}"
        for key in sorted(a.keys() | b.keys(), key=str)
        if key not in a or key not in b or a[key] != b[key]
    ]
    return "".join(lines[:12])


def _short(held: dict, key: object) -> str:
    return repr(held[key])[:300] if key in held else "nothing"


def unproved(trace: Trace, engine: str, native: Trace) -> str:
    """Return what speaks against ``engine`` having run what the trace tells; empty if it is proved.

    A step that natively runs in no engine's loop (one that the script takes by hand) has to stay where it is.
    """
    if not trace.steps:
        return "called no optimizer step"
    wanted = [frozenset({engine}) if ran else frozenset() for ran in native.engines]
    return "" if trace.engines == wanted else f"steps ran in {sorted(set(map(str, map(sorted, trace.engines))))}"


class Recorder:
    """Writes a trace of what runs within ``recording``.

    Args:
        script: Whose functions' calls are written down.
        volatile: Patterns that are cut from what is printed.
    """

    def __init__(self, script: Path, volatile: tuple[str, ...] = ()) -> None:
        self.trace = Trace()
        self._script = str(script)
        self._volatile = [re.compile(one) for one in (*volatile, *VOLATILE)]
        self._line = ""

    @contextmanager
    def recording(self):
        hook = register_optimizer_step_post_hook(self._stepped)
        out, sys.stdout = sys.stdout, self
        sys.settrace(self._called)
        try:
            yield self.trace
        finally:
            sys.settrace(None)
            sys.stdout = out
            hook.remove()
            self.write("\n" if self._line else "")

    def write(self, text: str) -> int:
        """Take what is printed; stdout's part."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            kept = self._cut(line)
            if kept:
                self.trace.events.append(f"print: {kept}")
        return len(text)

    def flush(self) -> None:
        """Do nothing: stdout's part."""

    def isatty(self) -> bool:
        """Tell that nobody looks: stdout's part."""
        return False

    encoding = "utf-8"

    def _cut(self, line: str) -> str:
        for one in self._volatile:
            line = one.sub("", line)
        return line.strip()

    def _stepped(self, optimizer, *_: object) -> None:
        held = hashlib.sha256()
        for group in optimizer.param_groups:
            for weight in group["params"]:
                held.update(digest(weight).encode())
        rates = tuple(float(group["lr"]) for group in optimizer.param_groups)
        self.trace.events.append(Step(held.hexdigest(), rates))
        self.trace.engines.append(_engines())

    def _called(self, frame, event: str, arg: object) -> None:
        code = frame.f_code
        if code.co_filename == self._script and code.co_name not in LOOKS:
            self.trace.events.append(code.co_qualname)


VOLATILE = (
    r"\x1b\[[0-9;]*m",
    r"[^\r]*\r",  # what a bar has drawn over
    r".*(it/s|s/it|\?it).*",  # a bar
    r"(/[^\s'\"]+)+",  # paths
    r"\d+:\d\d(:\d\d)?(\.\d+)?",  # times
)


def _engines() -> frozenset:
    """Return whose loops are among the callers."""
    found, frame = set(), sys._getframe()
    while frame is not None:
        name, path = frame.f_code.co_name, frame.f_code.co_filename
        found |= {engine for (end, function), engine in LOOPS.items() if name == function and path.endswith(end)}
        frame = frame.f_back
    return frozenset(found)


def digest(tensor: torch.Tensor) -> str:
    """Return what stands for a tensor's values, their type and their shape."""
    data = tensor.detach().cpu().contiguous()
    raw = data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b""
    return hashlib.sha256(f"{data.dtype}{tuple(data.shape)}".encode() + raw).hexdigest()
