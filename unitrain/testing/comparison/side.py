"""One side of a comparison: what it runs, and the run itself."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.registry import find_bridge
from unitrain.errors import SpecError, UnitrainError
from unitrain.spec import TrainSpec
from unitrain.testing.comparison import state
from unitrain.testing.comparison.loop_observer import LoopObserver
from unitrain.testing.comparison.native_observer import NativeObserver
from unitrain.testing.comparison.recorder import Enough, Findings, Orders, Recorder
from unitrain.testing.comparison.spec_observer import SpecObserver
from unitrain.trainer import UnifiedTrainer
from unitrain.utilities.rng import seed_everything
from unitrain.utilities.user_code import user_line

if TYPE_CHECKING:
    from unitrain.backends.registry import Framework

_HINT = "def make(): return spec, train_loader, val_loader; or yield the model after each optimizer step."
_LONGEST = 4


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a side runs.

    Attributes:
        make: Returns ``(spec, train)``, ``(spec, train, val)`` or ``(spec, train, val, options)``, or an iterator.
        framework: The backend; None for a hand-written loop.
        trainer: Options of ``UnifiedTrainer``.
        seed: Sown before ``make`` is called.
        threads: Number of torch threads.
        folder: Folder of what the run writes by default, which is removed.
    """

    make: Callable[[], Any]
    framework: Framework | None
    trainer: Mapping[str, Any]
    seed: int
    threads: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a side says of its run.

    Attributes:
        status: ``"finished"``, ``"different"``, ``"kept"``, ``"steps"`` or ``"failed"``.
        loop: Whether it was a hand-written loop.
        findings: What was recorded.
        seconds: Duration since the first batch, without that of observing.
        memory: Peak memory of the process in bytes; None if the system does not tell.
        gpu_memory: Peak memory of tensors on the GPU in bytes; None without a GPU.
        stopped_by: Why a fit ended.
        error: The error, in one line.
        traceback: The error with its traceback.
        generators: Digests of the random number generators within the training data before the run, by place.
        notes: What else a person should know.
    """

    status: str
    loop: bool = False
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    memory: int | None = None
    gpu_memory: int | None = None
    stopped_by: str | None = None
    error: str | None = None
    traceback: str | None = None
    generators: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def run_side(program: Program, orders: Orders, leave: Callable[[Answer], Any]) -> Answer:
    """Run a side in this process.

    Args:
        program: What to run.
        orders: How to record it.
        leave: Called with the answer where the run has shown enough, to end the process; it may return, then the run
            is ended by an exception.
    """
    torch.set_num_threads(program.threads)
    return _Side(program, orders, leave).run()


class _Side:
    def __init__(self, program: Program, orders: Orders, leave: Callable[[Answer], Any]) -> None:
        self._program = program
        self._recorder = Recorder(orders, self._enough)
        self._leave = leave
        self._answer = Answer(status="failed")

    def run(self) -> Answer:
        """Run the side."""
        try:
            seed_everything(self._program.seed)
            made = self._program.make()
            if isinstance(made, Iterator):
                self._loop(made)
            else:
                self._fit(*_parts(made))
        except Enough as enough:
            self._end(enough.reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is reported
            self._end("failed")
            told = traceback.format_exception(error)
            self._answer = replace(self._answer, error=_line(error), traceback="".join(told))
        else:
            self._end("finished")
        finally:
            self._recorder.end()
        return self._answer

    def _loop(self, loop: Iterator[Any]) -> None:
        self._answer = replace(self._answer, loop=True)
        observer = LoopObserver(self._recorder)
        try:
            observer.run(loop)
        finally:
            observer.leave()

    def _fit(self, spec: Any, train: Any, val: Any, given: Mapping[str, Any]) -> None:
        program = self._program
        options, notes = _options(given, program)
        self._answer = replace(self._answer, generators=state.own_generators([train]), notes=notes)
        if program.framework is None:
            raise UnitrainError("a spec needs a framework.", hint='frameworks=("lightning", "ignite")')
        trainer = UnifiedTrainer(program.framework, **options)
        native = not isinstance(spec, TrainSpec)
        observer = NativeObserver(spec, self._recorder) if native else SpecObserver(trainer, self._recorder)
        try:
            result = trainer.fit(spec, train, val)
            observer.end(result)
        finally:
            observer.leave()
        self._answer = replace(self._answer, stopped_by=result.stopped_by)

    def _enough(self, reason: str) -> None:
        self._end(reason)
        self._recorder.end()
        self._leave(self._answer)
        raise Enough(reason)

    def _end(self, status: str) -> None:
        findings = self._recorder.findings
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
        self._answer = replace(
            self._answer,
            status=status,
            findings=findings,
            seconds=self._recorder.seconds,
            memory=peak_memory(),
            gpu_memory=gpu,
        )


def _line(error: BaseException) -> str:
    """Return an error with the user's line that led to it; unitrain's own says what it is about."""
    text, line = str(error).strip(), None if isinstance(error, UnitrainError) else user_line(error)
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return told if line is None else f"{told} (at {line})"


def _options(own: Mapping[str, Any], program: Program) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options of the trainer, and what was left out of the program's own ones.

    Raises:
        UnitrainError: If the run would be of several processes, which are not observed.
    """
    left = own.get("loggers")
    quiet = {"enable_progress_bar": False, "default_root_dir": program.folder}
    options = {name: value for name, value in own.items() if name != "loggers"} | quiet | dict(program.trainer)
    several = [name for name in ("devices", "num_nodes") if _several(options.get(name, 1))]
    if several:
        raise UnitrainError(
            f"each side of a comparison is one process; got {several[0]}={options[several[0]]!r}.", hint="devices=1"
        )
    if options.get("devices") == "auto":
        options["devices"] = 1
    return options, (("the loggers of the trainer were left out.",) if left else ())


def _several(count: Any) -> bool:
    """Return whether devices or nodes are more than one; ``"auto"`` becomes one."""
    return len(count) > 1 if isinstance(count, (list, tuple)) else str(count) not in ("1", "auto")


def _parts(made: Any) -> tuple[Any, Any, Any, Mapping[str, Any]]:
    """Return the spec, the data and the options that a function returned.

    Raises:
        SpecError: If it returned anything else.
    """
    parts = tuple(made) if isinstance(made, (tuple, list)) else ()
    right = 2 <= len(parts) <= _LONGEST and _can_be_trained(parts[0])  # noqa: PLR2004 - the spec and its data
    options = parts[3] if len(parts) == _LONGEST else {}
    if not right or not isinstance(options or {}, Mapping):
        raise SpecError(
            f"a program must return (spec, train) or (spec, train, val); it returned {_told(made)}.", hint=_HINT
        )
    return parts[0], parts[1], parts[2] if len(parts) > 2 else None, options or {}  # noqa: PLR2004


def _can_be_trained(given: Any) -> bool:
    """Return whether it is a spec, or code of a framework."""
    return isinstance(given, TrainSpec) or find_bridge(given) is not None


def _told(made: Any) -> str:
    if isinstance(made, (tuple, list)):
        return f"a {type(made).__name__} of {', '.join(type(one).__name__ for one in made) or 'nothing'}"
    return f"a {type(made).__name__}"


def is_loop(make: Any) -> bool:
    """Return whether a function is known to return an iterator."""
    return inspect.isgeneratorfunction(inspect.unwrap(make))


def peak_memory() -> int | None:
    """Return the peak memory of this process in bytes; None if the system does not tell.

    ``getrusage`` would include what the process that started this one had in use.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next((one for one in status.read_text().splitlines() if one.startswith("VmHWM:")), None)
        if line is not None:
            return int(line.split()[1]) * 1024
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
