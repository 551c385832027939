"""`run.json`: what a run was given, what it ran with, and how it ended.

It is written before training, with the status "running", and again at the end. So a killed run has a record too.
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from unitrain.errors import ConfigError
from unitrain.reports.run import forms, surroundings
from unitrain.reports.run.facts import facts_of, spec_text
from unitrain.utilities import files
from unitrain.utilities.secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from unitrain.utilities.profiling import Profile

FILE = "run.json"
SCHEMA = 1
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
_LARGEST_FILE = 64 << 20
_MOST_WARNINGS, _LONGEST = 200, 20_000
"""How many different warnings are kept, and how many characters of a message or a traceback."""


class Outcome(Protocol):
    """What a record takes from a FitResult."""

    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102 - as FitResult has them
    @property
    def history(self) -> Sequence[Mapping[str, float]]: ...  # noqa: D102
    @property
    def epoch(self) -> int: ...  # noqa: D102
    @property
    def step(self) -> int: ...  # noqa: D102
    @property
    def stopped_by(self) -> str: ...  # noqa: D102
    @property
    def best_checkpoint(self) -> Path | None: ...  # noqa: D102
    @property
    def last_checkpoint(self) -> Path | None: ...  # noqa: D102
    @property
    def framework(self) -> str: ...  # noqa: D102
    @property
    def profile(self) -> Profile | None: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run.

    Attributes:
        status: ``"running"``, ``"finished"``, ``"failed"`` or ``"interrupted"``. A killed run stays ``"running"``.
        framework: The backend.
        seed: The seed that was sown.
        config: The configuration as text.
        spec: The spec as text.
        started: When it began, ISO 8601 in UTC.
        ended: When it ended.
        seconds: How long it took.
        stopped_by: As in FitResult.
        epoch: The last epoch, from 0.
        step: Number of optimizer steps.
        metrics: The last value of each metric.
        history: One mapping per epoch.
        rates: The learning rates, one mapping per epoch with ``epoch``.
        times: ``epoch``, ``steps`` and ``seconds`` of each epoch, validation included.
        profile: ``calls`` and ``seconds`` of each part, with ``profiler="simple"``.
        best_checkpoint: The best checkpoint.
        last_checkpoint: The newest checkpoint.
        warnings: ``category``, ``message`` and ``count`` of each warning.
        error: ``type``, ``message`` and ``traceback`` of the error that ended it.
        versions: Releases by distribution.
        hardware: Host, processor, memory, accelerators.
        git: ``commit``, ``branch`` and ``changed_files`` of the working folder.
        process: The number of the process that ran it.
        resumed_from: The checkpoint that it resumed; a configuration of unitrain's own does not name it.
        schema: The version of this form.
    """

    status: str
    framework: str
    seed: int | None = None
    config: str = ""
    spec: str = ""
    started: str = ""
    ended: str | None = None
    seconds: float | None = None
    stopped_by: str | None = None
    epoch: int | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    rates: Sequence[Mapping[str, float]] = ()
    times: Sequence[Mapping[str, float]] = ()
    profile: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    best_checkpoint: str | None = None
    last_checkpoint: str | None = None
    warnings: Sequence[Mapping[str, Any]] = ()
    error: Mapping[str, str] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    git: Mapping[str, str] | None = None
    process: int | None = None
    resumed_from: str | None = None
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Return the record as JSON, in which NaN and infinities are texts."""
        return json.dumps(forms.in_json(asdict(self)), indent=1, allow_nan=False, default=str) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes) -> RunRecord:
        """Return the record in a text. Fields that this release does not know are dropped.

        Raises:
            ValueError: If it is none.
        """
        try:
            given = json.loads(content)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(given, dict):
            raise ValueError(f"expected an object, got {type(given).__name__}")  # noqa: TRY004 - of the file's content
        schema = given.get("schema")
        if schema != SCHEMA or isinstance(schema, bool):
            raise ValueError(f"it has schema {schema!r:.40}, and this release of unitrain reads {SCHEMA}")
        return cls(**{name: _checked(name, form, given[name]) for name, form in _FORMS.items() if name in given})


_WARNING: dict[str, Callable[[Any], Any]] = {"category": forms.text, "message": forms.text, "count": forms.whole}


def _warning(value: Any) -> dict[str, Any]:
    found = forms.mapping(lambda one: one)(value)
    return {name: form(found.get(name)) for name, form in _WARNING.items()}


_TEXT, _WHOLE, _NUMBER = forms.optional(forms.text), forms.optional(forms.whole), forms.optional(forms.number)
_TEXTS, _VALUES = forms.mapping(forms.text), forms.mapping(forms.number)
_FORMS: dict[str, Callable[[Any], Any]] = {
    "status": forms.one_of(RUNNING, FINISHED, FAILED, INTERRUPTED),
    "framework": forms.text,
    "seed": _WHOLE,
    "config": forms.text,
    "spec": forms.text,
    "started": forms.text,
    "ended": _TEXT,
    "seconds": _NUMBER,
    "stopped_by": _TEXT,
    "epoch": _WHOLE,
    "step": _WHOLE,
    "metrics": _VALUES,
    "history": forms.sequence(_VALUES),
    "rates": forms.sequence(_VALUES),
    "times": forms.sequence(_VALUES),
    "profile": forms.mapping(_VALUES),
    "best_checkpoint": _TEXT,
    "last_checkpoint": _TEXT,
    "warnings": forms.sequence(_warning),
    "error": forms.optional(_TEXTS),
    "versions": _TEXTS,
    "hardware": _TEXTS,
    "git": forms.optional(_TEXTS),
    "process": _WHOLE,
    "resumed_from": _TEXT,
}


def _checked(name: str, form: Callable[[Any], Any], value: Any) -> Any:
    try:
        return form(value)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


# --- a run's folder ---------------------------------------------------------------------------------------------------


def begin_record(
    folder: str | Path,
    *,
    config: str,
    spec: str,
    framework: str,
    seed: int | None,
    resumed_from: str | None = None,
) -> RunRecord:
    """Write the record of a run that begins.

    Args:
        folder: The folder of the run.
        config: The complete configuration, as text.
        spec: What is trained, as text.
        framework: The backend.
        seed: The seed that was sown.
        resumed_from: The checkpoint that it goes on from.

    Raises:
        ConfigError: If it cannot be written, or the folder has a record.
    """
    record = RunRecord(
        status=RUNNING,
        framework=framework,
        seed=seed,
        config=without_secrets(config),
        spec=without_secrets(spec),
        started=_now(),
        versions=surroundings.versions(),
        hardware=surroundings.hardware(),
        git=surroundings.git(),
        process=os.getpid(),
        resumed_from=None if resumed_from is None else without_secrets(resumed_from),
    )
    _write(folder, record, new=True)
    return record


def end_record(folder: str | Path, outcome: Outcome | BaseException, warnings: Iterable[Any] = ()) -> RunRecord:
    """Complete the record of a run.

    Args:
        folder: The folder of the run.
        outcome: Its result, or the error that ended it.
        warnings: The warnings of the run, as ``warnings.catch_warnings(record=True)`` collects them, or texts.

    Raises:
        ConfigError: If there is no record to complete, or it cannot be written.
    """
    record = read_record(folder)
    ended = _now()
    found = (
        _failure(outcome) if isinstance(outcome, BaseException) else {**of_outcome(outcome), **_where(record, outcome)}
    )
    done = replace(record, ended=ended, seconds=_between(record.started, ended), warnings=_warned(warnings), **found)
    _write(folder, done)
    return done


def read_record(folder: str | Path) -> RunRecord:
    """Return the record of a run.

    Raises:
        ConfigError: If there is none, or it is damaged.
    """
    path = files.user_path(folder) / FILE
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(
                f"{path} is too large for the record of a run.", hint=f"at most {_LARGEST_FILE >> 20} MiB."
            )
        return RunRecord.from_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", hint="pass the folder of a run of `unitrain fit`."
        ) from error
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not the record of a run: {error}.", hint="`unitrain fit` writes one.") from error


def _write(folder: str | Path, record: RunRecord, *, new: bool = False) -> None:
    path = files.user_path(folder) / FILE
    files.refuse_existing(path, ConfigError, overwrite=not new, hint="each run has a folder of its own.")
    with files.failing_as(ConfigError, path), files.written(path, new=new) as file:
        file.write(record.to_json().encode("utf-8", "backslashreplace"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _between(started: str, ended: str) -> float | None:
    """Return the seconds between two times; None if they are none."""
    with suppress(ValueError, TypeError):
        return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds())
    return None


def _where(record: RunRecord, outcome: Outcome) -> dict[str, Any]:
    """Return what is known at the end of a run: where it was, and all of what it trained."""
    facts = facts_of(outcome)
    if facts is None:
        return {}
    device = surroundings.device(facts.device, facts.processes)
    return {"hardware": {**record.hardware, **device}, "spec": spec_text(facts.spec)}


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a record that the result of a fit fills."""
    facts, profile = facts_of(outcome), outcome.profile
    log = None if facts is None else facts.log
    files_kept = {name: getattr(outcome, name) for name in ("best_checkpoint", "last_checkpoint")}
    parts = () if profile is None else profile.rows
    return {
        "status": INTERRUPTED if facts is not None and facts.interrupted else FINISHED,
        **{name: getattr(outcome, name) for name in ("stopped_by", "epoch", "step")},
        "metrics": dict(outcome.metrics),
        "history": tuple(map(dict, outcome.history)),
        "rates": () if log is None else tuple(log.rate_rows()),
        "times": () if log is None else tuple(log.time_rows()),
        "profile": {one.part: {"calls": one.calls, "seconds": one.seconds} for one in parts}
        | ({} if profile is None else {"total": {"seconds": profile.total}}),
        **{name: None if path is None else str(path) for name, path in files_kept.items()},
    }


def _failure(error: BaseException) -> dict[str, Any]:
    told = without_secrets("".join(traceback.format_exception(error)))
    message = without_secrets(str(error))[:_LONGEST]
    return {
        "status": INTERRUPTED if isinstance(error, (KeyboardInterrupt, SystemExit)) else FAILED,
        "error": {"type": type(error).__name__, "message": message, "traceback": told[-_LONGEST:]},
    }


def _warned(warnings: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Return the warnings without repetitions, in the order in which they came first."""
    counts = Counter(
        (
            getattr(getattr(one, "category", None), "__name__", "Warning"),
            without_secrets(str(getattr(one, "message", one)))[:_LONGEST],
        )
        for one in warnings
    )
    kept = list(counts.items())[:_MOST_WARNINGS]
    return tuple({"category": kind, "message": text, "count": count} for (kind, text), count in kept)
