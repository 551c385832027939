"""The trackers of a study's trials: each trial has a run of its own, and the runs of a study belong together.

A tracker with ``for_trial(name, group)`` returns the one of a trial; one with ``begin_group(name)`` makes what the
trials of a study have in common, once, and returns by what it is known again. ``end_trial`` and ``end_group`` tell it
of the end. Trackers without these methods are used as they are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.loggers.dispatch import names_of
from unitrain.loggers.outlet import tell
from unitrain.tuning.leases.lease import alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unitrain.tuning.leases.lease import Leases

GROUPS = "unitrain:trackers"
"""The study's attribute with what its trackers know it by."""


class StudyTrackers:
    """The trackers of a study, in one worker.

    Args:
        study: The Optuna study.
        leases: The leases of the study, so that only one worker begins a group.
    """

    def __init__(self, study: Any, leases: Leases) -> None:
        self._study = study
        self._leases = leases
        self._groups: dict[str, tuple[Any, Mapping[str, Any]]] = {}

    def of_trial(self, loggers: Sequence[Any], name: str) -> list[Any]:
        """Return the trackers of a trial.

        Args:
            loggers: As the user gave them, or copies of these.
            name: Name of the trial's run.
        """
        made: list[Any] = []
        for key, one in names_of(loggers).items():
            group = self._known(key, one)  # the study does not begin without its trackers
            with _failing_softly(one):
                made.append(one.for_trial(name, group) if hasattr(one, "for_trial") else one)
        return made

    def _known(self, key: str, logger: Any) -> Mapping[str, Any]:
        if not hasattr(logger, "for_trial"):
            return {}
        if key not in self._groups:
            self._groups[key] = logger, self._group(key, logger)
        return self._groups[key][1]

    def _group(self, key: str, logger: Any) -> Mapping[str, Any]:
        """Return by what a tracker knows the study, and begin it there if no worker has.

        Raises:
            ConfigError: If the tracker cannot be reached.
        """
        known = self._study.user_attrs.get(GROUPS, {})
        if key not in known and hasattr(logger, "begin_group"):
            with alone(self._leases, "study"):
                known = self._study.user_attrs.get(GROUPS, {})
                if key not in known:
                    known = {**known, key: _begun(logger, self._study.study_name)}
                    self._study.set_user_attr(GROUPS, known)
        found: Mapping[str, Any] = known.get(key, {})
        return found

    def end(self) -> None:
        """Tell the trackers that the study has ended."""
        for logger, group in self._groups.values():
            if hasattr(logger, "end_group"):
                with _failing_softly(logger):
                    logger.end_group(group)


def _begun(logger: Any, name: str) -> dict[str, Any]:
    try:
        return dict(logger.begin_group(name))
    except Exception as error:
        raise ConfigError(
            f"the tracker {type(logger).__name__} cannot begin the study {name!r}: {error}",
            hint="is its server running? Without it: trainer={...} without loggers=.",
        ) from error


def end_trial(loggers: Sequence[Any], trial: Any, monitor: Sequence[str]) -> None:
    """Tell the trackers of a trial how it ended.

    Args:
        loggers: The trackers of the trial.
        trial: The stored Optuna trial.
        monitor: The names of its values.
    """
    values = dict(zip(monitor, trial.values or [None] * len(monitor), strict=True))
    for logger in loggers:
        if hasattr(logger, "end_trial"):
            with _failing_softly(logger):
                logger.end_trial(trial.state.name, dict(trial.params), values)


@contextmanager
def _failing_softly(logger: Any) -> Iterator[None]:
    """Warn of what a tracker raises: no tracker ends a study."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a tracker does, the study continues
        tell(f"the tracker {type(logger).__name__} failed: {error!r}. The study continues without it.")
