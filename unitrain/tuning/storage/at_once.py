"""New trials of a study in one write."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Collected:
    """Takes what is appended to a journal, and reads nothing."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - Optuna's
        return iter(())


def add_trials(study: Any, trials: Sequence[Any]) -> None:
    """Add trials to a study; a journal gets all but the first in one piece, with one wait for the disk or the server.

    Args:
        study: Optuna's.
        trials: Optuna's, as ``create_trial`` makes them.
    """
    for one in trials[:1]:  # Optuna's journal must have made one before it can be kept from reading
        study.add_trial(one)
    with _collecting(study._storage):  # noqa: SLF001 - Optuna has no way to add several
        for one in trials[1:]:
            study.add_trial(one)


@contextmanager
def _collecting(storage: Any) -> Iterator[None]:
    import optuna  # noqa: PLC0415 - an extra

    if not isinstance(storage, optuna.storages.JournalStorage):
        yield
        return
    backend, collected = storage._backend, _Collected()  # noqa: SLF001 - as above
    storage._backend = collected  # noqa: SLF001
    try:
        yield
    finally:
        storage._backend = backend  # noqa: SLF001
    if collected.logs:
        backend.append_logs(collected.logs)
        storage.get_all_studies()  # our journals return with the next read what they appended, and that must be at once
