"""Shared by the trackers that report to a monitoring server: the loop stores, a thread sends.

A datagram takes longer than a step of a small model, and a server may hang. So the loop only stores the newest value of
each name; one thread delivers them every second and once more at the end. An older value is never sent after a newer
one, and values that could not be sent are replaced, not queued.
"""

from __future__ import annotations

import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.errors import ConfigError
from unitrain.loggers.outlet import tell
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INTERVAL = 1.0
"""Seconds between two deliveries."""

TIMEOUT = 2.0
"""Seconds that a server has to answer."""

_PATIENCE, _LITTLE_PATIENCE = TIMEOUT, 0.25
"""Seconds that the end of a run waits for the last delivery; the shorter one if the delivery before has failed."""

OWN = {
    "step": "Number of optimizer steps.",
    "epoch": "The epoch, from 0.",
    "last_step_timestamp_seconds": "Unix time of the last optimizer step, or of the run's start.",
}
"""The values of every run, and what they mean."""

STAGES = ("train", "val", "test", "predict")


def stage_of(name: str) -> str:
    """Return the stage of a value by the beginning of its name; empty if it belongs to none."""
    return next((stage for stage in STAGES if name.startswith((f"{stage}/", f"{stage}_"))), "")


@dataclass(frozen=True)
class Report:
    """The newest values of a run.

    Attributes:
        run: Name of the run.
        values: The values by full name, such as ``train/loss``.
        step: Number of optimizer steps.
        epoch: The epoch, from 0.
        stepped_at: Unix time of the last step, or of the run's start.
        names: The names under which the values are reported, without the prefix.
    """

    run: str
    values: Mapping[str, float]
    step: int
    epoch: int
    stepped_at: float
    names: Mapping[str, str]

    def stored_as(self, name: str) -> str:
        """Return the name under which a value is reported, without the prefix."""
        return self.names[name]

    @property
    def own(self) -> dict[str, float]:
        """The values that every run has, by the names in ``OWN``."""
        return {"step": self.step, "epoch": self.epoch, "last_step_timestamp_seconds": self.stepped_at}


class Sender:
    """One thread that delivers every second if there is anything new, and once more at the end.

    Attributes:
        fresh: Whether there is anything to deliver; the loop sets it.
        failures: Number of failed deliveries.
        error: What the last delivery raised; None if it succeeded.

    Args:
        deliver: Sends the newest values; whatever it raises is kept, and the delivery tried again.
        read: Returns the newest values.
        moved: Returns whether the run has made a step since it was last asked.
    """

    def __init__(
        self, deliver: Callable[[Report], None], read: Callable[[], Report], moved: Callable[[], bool]
    ) -> None:
        self._deliver, self._read, self._moved = deliver, read, moved
        self._final: Report | None = None
        self._last: Callable[[Report], None] | None = None
        self._over = threading.Event()
        self.fresh = False
        self.failures = 0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="unitrain monitoring", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            self._attempt(self._deliver)
        self._attempt(self._deliver)
        if self._last is not None and self.error is None:
            self.fresh = True
            self._attempt(self._last)

    def _attempt(self, deliver: Callable[[Report], None]) -> None:
        if not ((self._final is None and self._moved()) or self.fresh):
            return
        self.fresh = False  # before the values are read: what the loop stores meanwhile is delivered next
        try:
            deliver(self._final or self._read())
        except Exception as error:  # noqa: BLE001 - whatever a server does, training continues
            self.fresh, self.error = True, error
            self.failures += 1
        else:
            self.error = None

    def close(self, final: Report, last: Callable[[Report], None] | None = None) -> bool:
        """End the thread; return whether everything was delivered.

        Args:
            final: The last values. The thread may outlive the run, and must not send those of the next.
            last: What remains to be sent after the values, or None.
        """
        self._last, self._final = last, final
        self._over.set()
        self._thread.join(_PATIENCE if self.error is None else _LITTLE_PATIENCE)
        return not (self._thread.is_alive() or self.error)


class Reporter(Shown):
    """The tracker protocol of a monitoring server; a subclass sends a ``Report``.

    Args:
        run: Name of the run; None makes a new one for each run.
        job: The beginning of that name.
    """

    reserved: ClassVar[tuple[str, ...]] = tuple(OWN)
    """Names of reported values that are not the user's."""

    def __init__(self, run: str | None, job: str) -> None:
        require_name("run", run)
        require_name("job", job)
        self._run, self._job = run, job
        self._sender: Sender | None = None
        self._resumed: str | None = None
        self._counters: Callable[[], tuple[int, int]] | None = None
        self._lock = threading.Lock()
        self._failures = 0
        self._failed = False
        self._step, self._told = 0, False
        self._start_over()

    # --- what a subclass defines --------------------------------------------------------------------------------------

    @property
    def destination(self) -> str:
        """Where the values are sent, for warnings."""
        raise NotImplementedError

    def accepted(self, name: str) -> str:
        """Return the nearest name that the server accepts; without the prefix."""
        raise NotImplementedError

    def deliver(self, report: Report) -> None:
        """Send the values; called by the thread."""
        raise NotImplementedError

    def end(self, report: Report) -> None:
        """Remove what a successful run must not leave behind; called by the thread after the last delivery."""

    # --- the tracker protocol -----------------------------------------------------------------------------------------

    def before_run(self) -> None:
        """Refuse a run that could not be reported."""

    def follow(self, counters: Callable[[], tuple[int, int]]) -> None:
        """Read the step and the epoch from the run, which the thread looks at; rows come only every n-th step."""
        self._counters = counters

    def begin(self, rows: int) -> None:  # noqa: ARG002 - the name alone tells which run it is
        """Begin a run, or continue the one of the checkpoint."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close(self.report())
        name, self._resumed = self._resumed, None
        self._failed = False
        self._start_over(name)
        self._started()

    def run_state(self) -> dict[str, Any]:
        """Return the name of the run, for a checkpoint."""
        return {"run": self.run}

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Continue under the name of the resumed run."""
        self._resumed = state.get("run")

    def begin_group(self, study: str) -> dict[str, str]:
        """Return the name of a study, by which the runs of its trials begin."""
        return {"study": study}

    def for_trial(self, name: str, group: Mapping[str, Any]) -> Reporter:
        """Return the tracker of a trial."""
        made = type(self).__new__(type(self))
        made.__setstate__({**self.__getstate__(), "_run": f"{group['study']}-{name}"})
        made._start_over()  # noqa: SLF001 - its own
        return made

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Store the row; a thread sends it."""
        sender = self._sender or self._started()
        if not metrics.keys() <= self._names.keys():
            self._name(metrics)
        self._values.update(metrics)
        if step != self._step:
            self._step, self._stepped_at = step, time.time()
        if sender is not None:
            sender.fresh = True
            if sender.error is not None and not self._told:
                self._tell(sender.error)

    def save(self) -> None:
        """Do nothing: a thread sends."""

    def finalize(self, status: str) -> None:
        """Send the last values and end the thread; wait for a server that hangs only as long as documented."""
        sender, self._sender = self._sender, None
        if sender is not None:
            self._failed = self._failed or status not in ("success", "finished")
            if self._moved():
                sender.fresh = True
            delivered = sender.close(self.report(), None if self._failed else self.end)
            self._failures += sender.failures
            if not delivered:
                why = "it does not answer" if sender.error is None else repr(sender.error)
                tell(
                    f"the tracker {type(self).__name__} could not send the last values to {self.destination}: {why}."
                    f" Deliveries that failed: {sender.failures}."
                )
        self._moved()
        self._counters = None

    # --- within -------------------------------------------------------------------------------------------------------

    @property
    def run(self) -> str:
        """Name of the current run, the value of the label ``run``."""
        return self._name_of_run

    def _start_over(self, name: str | None = None) -> None:
        made = f"{self._job}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._name_of_run = self._run or name or made
        self._values: dict[str, float] = {}
        self._names: dict[str, str] = {}
        self._step, self._epoch, self._stepped_at = 0, 0, time.time()
        self._told = False

    @property
    def failures(self) -> int:
        """Number of failed deliveries."""
        sender = self._sender
        return self._failures + (0 if sender is None else sender.failures)

    def _started(self) -> Sender | None:
        self._sender = Sender(self.deliver, self.report, self._moved)
        return self._sender

    def _moved(self) -> bool:
        """Read the counters of the run; return whether it has made a step since."""
        counters = self._counters
        if counters is None:
            return False
        with self._lock:
            step, self._epoch = counters()
            if step == self._step:
                return False
            self._step, self._stepped_at = step, time.time()
            return True

    def report(self) -> Report:
        """Return the newest values."""
        self._moved()
        values = dict(self._values)
        epoch = int(values.pop("epoch", self._epoch))
        return Report(self.run, values, self._step, max(epoch, self._epoch), self._stepped_at, self._names)

    def _name(self, metrics: Mapping[str, float]) -> None:
        """Choose names for new values. Two that would be equal both remain: the second gets a suffix.

        Raises:
            TypeError: If a value is not a number; the row is then sent without it.
        """
        for name in metrics:
            if name in self._names:
                continue
            if not isinstance(metrics[name], Real):
                raise TypeError(f"{name!r} is not a number")
            made, used = self.accepted(name), {*self._names.values(), *self.reserved}
            if made in used and name != "epoch":
                made = f"{made}_{zlib.crc32(name.encode(errors='backslashreplace')):08x}"
                while made in used:
                    made += "_"
                tell(f"the tracker {type(self).__name__} reports {name!r} as {made!r}: the plain name is taken.")
            self._names[name] = made

    def _tell(self, error: Exception) -> None:
        self._told = True
        tell(
            f"the tracker {type(self).__name__} cannot reach {self.destination}: {error!r}. Training continues; the"
            f" newest values are sent again every {INTERVAL:.0f} s."
        )

    def __getstate__(self) -> dict[str, Any]:
        """Drop the thread and the run that it follows: each process has its own."""
        return {**vars(self), "_sender": None, "_counters": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state, with a lock of its own."""
        vars(self).update(state, _lock=threading.Lock())


def require_name(argument: str, value: str | None) -> None:
    """Refuse a label that servers would not accept.

    Raises:
        ConfigError: If it is not a printable text.
    """
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise ConfigError(f"{argument} must be a printable text; got {value!r}.", hint=f'{argument}="digits"')
