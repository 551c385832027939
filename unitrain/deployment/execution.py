"""Does the steps of a plan; where one fails, takes back what this call did, in reverse order."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unitrain.deployment.steps import Plan, Poll, Step

TIMEOUT: Final = 1800.0
"""Seconds to wait for one step: SageMaker takes some ten minutes for an endpoint, Vertex AI up to twenty."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
"""Seconds between two looks at what is waited for."""


class _TooLong(Exception):  # noqa: N818 - it never leaves this module
    """What is waited for takes longer than the user wants to wait."""


class Execution:
    """The steps of a plan, done one after the other.

    Attributes:
        plan: What to do.

    Args:
        plan: As the attribute.
        how_to_go_on: Is added to what is raised where the wait ends early; says what the user can do then.
        timeout: Seconds to wait for one step.
        tell: Is called with a line of progress.
    """

    def __init__(self, plan: Plan, how_to_go_on: str, timeout: float, tell: Callable[[str], None]) -> None:
        self.plan, self._how_to_go_on, self._timeout, self._tell = plan, how_to_go_on, timeout, tell
        self._left = deque(plan.steps)
        self._begun: list[Step] = []
        self._failure: DeployError | None = None

    @property
    def tells(self) -> bool:
        """Whether progress is written."""
        return self._tell is not nothing

    @property
    def is_complete(self) -> bool:
        """Whether everything is done."""
        return not self._left and self._failure is None

    def run(self, *, wait: bool) -> None:
        """Do what is left.

        Args:
            wait: Whether to wait; if not, it returns at the first step whose effect is not there at once.

        Raises:
            DeployError: If a step fails; what was done is taken back.
        """
        if self._failure is not None:
            raise self._failure
        while self._left:
            step = self._left[0]
            try:
                if not self._do(step, wait=wait):
                    return
            except KeyboardInterrupt as stop:
                self._say_how_to_go_on(stop, step)
                raise
            except _TooLong as error:
                if not step.is_cleanup:
                    raise DeployError(str(error), hint=self._how_to_go_on) from None
                self._fail(step, error)
            except Exception as error:  # noqa: BLE001 - whatever a provider raises, its work is taken back
                self._fail(step, error)
            self._left.popleft()

    def _do(self, step: Step, *, wait: bool) -> bool:
        """Do a step, and return whether its effect is there."""
        if step not in self._begun:
            self._begun.append(step)
            if step.do is not None:
                self._tell(f"{step.verb.value} {step.title}")
                step.do()
        if step.ready is None:
            return True
        if not wait:
            return step.ready() is None
        self._wait(step.title, step.ready)
        return True

    def _wait(self, title: str, ready: Poll) -> None:
        started, pause, told = time.monotonic(), _FIRST_PAUSE, ""
        while (state := ready()) is not None:
            spent = time.monotonic() - started
            if spent > self._timeout:
                raise _TooLong(f"{title} is {state} after {spent:.0f} s; it is left as it is.")
            if state != told:
                self._tell(f"  {title} is {state} ({spent:.0f} s)")
                told = state
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        if told:
            self._tell(f"  {title}: done ({time.monotonic() - started:.0f} s)")

    def _say_how_to_go_on(self, stop: KeyboardInterrupt, step: Step) -> None:
        text = f"Stopped at {step.title}; nothing is taken back. {self._how_to_go_on}"
        stop.add_note(text)
        self._tell(text)

    def _fail(self, step: Step, error: Exception) -> None:
        """Pass over a failed clean-up; else take everything back, and raise.

        Raises:
            DeployError: With the reason, what was taken back, and what remains.
        """
        reason = _plain(error)
        if step.is_cleanup:
            warn_caller(f"could not {step.verb.value} {step.title}: {reason}. The next deploy tries again.")
            return
        number = self.plan.steps.index(step) + 1
        failed = f"{self.plan.title} failed at step {number} of {len(self.plan.steps)}, {step.verb.value} {step.title}"
        self._left.clear()
        taken, remaining = self._take_back()
        told = [f"{failed}: {reason}."]
        if taken:
            told.append(f"Taken back: {', '.join(taken)}.")
        if remaining:
            told.append(f"It remains: {'; '.join(remaining)}.")
        self._failure = DeployError(" ".join(told), hint=getattr(error, "hint", None))
        raise self._failure from error

    def _take_back(self) -> tuple[list[str], list[str]]:
        """Undo what was begun, last first; return what is taken back, and what is not and why."""
        taken: list[str] = []
        remaining: list[str] = []
        for step in reversed(self._begun):
            if not step.undo:
                continue
            try:
                self._undo(step.undo)
            except KeyboardInterrupt:
                remaining.append(f"{step.title} (stopped)")
                self._tell(f"Stopped while taking back; these may remain: {'; '.join(remaining)}")
                raise
            except Exception as error:  # noqa: BLE001 - the others are taken back too, and this one is reported
                remaining.append(f"{step.title} ({_plain(error)})")
            else:
                taken.append(step.title)
        return taken, remaining

    def _undo(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._tell(f"take back: {step.verb.value} {step.title}")
            if step.do is not None:
                step.do()
            if step.ready is not None:
                self._wait(step.title, step.ready)


def _plain(error: Exception) -> str:
    """Return what an error says, within a sentence: without its hint and its full stop."""
    return (str(error) or type(error).__name__).partition("\nHint: ")[0].rstrip(".")


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a plan is carried out: what ``deploy`` and ``undeploy`` accept beside the settings.

    Attributes:
        dry_run: Only read; no step is done.
        wait: Whether to wait for steps that take time.
        timeout: Seconds to wait for one step.
        progress: Whether to write what is done to standard error.
    """

    dry_run: bool = False
    wait: bool = True
    timeout: float = TIMEOUT
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no time to wait.

        Raises:
            DeployError: If it is not a finite number above 0.
        """
        _require_seconds(self.timeout)

    def execution(self, plan: Plan, how_to_go_on: str) -> Execution:
        """Return the execution of a plan; nothing is done yet."""
        return Execution(plan, how_to_go_on, self.timeout, tell if self.progress else nothing)

    def run(self, execution: Execution) -> None:
        """Do the steps, unless only the plan is wanted.

        Raises:
            DeployError: If a step fails; what was done is taken back.
        """
        if not self.dry_run:
            execution.run(wait=self.wait)


def _require_seconds(timeout: Any) -> None:
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not (timeout > 0 and math.isfinite(timeout)):
        raise DeployError(f"timeout= must be a number of seconds above 0; got {timeout!r:.80}.", hint="timeout=1800")


def tell(line: str) -> None:
    """Write a line of progress to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - that is what the user waits for


def nothing(line: str) -> None:
    """Write nothing."""
    del line
