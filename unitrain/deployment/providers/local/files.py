"""The folder of a local deployment: what is wanted, what is, and who lives."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.local.locks import locked
from unitrain.errors import DeployError
from unitrain.utilities.files import sweep, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMAT: Final = 1
_PRIVATE: Final = 0o700
_LOG_END: Final = 2000


@dataclass(frozen=True)
class Wanted:
    """What the supervisor is to run.

    Attributes:
        version: The folder of the bundle within ``versions``.
        call: Of the deploy that wants it.
        host: The address to listen on.
        port: The port; 0 keeps the present one, or picks a free one.
    """

    version: str
    call: str
    host: str
    port: int


@dataclass(frozen=True)
class State:
    """What the supervisor says of itself.

    Attributes:
        state: ``"Starting"``, ``"InService"``, ``"Updating"``, ``"Restarting"``, ``"Failed"`` or ``"Stopped"``.
        version: What answers.
        call: The last call that was dealt with, whether it succeeded or not.
        url: The address.
        service: The number of the process that answers.
        reason: Why the last call failed.
        draining: The versions that still answer what they had accepted.
        token: The salted hash of the token that clients must send; empty if they need none.
    """

    state: str
    version: str = ""
    call: str = ""
    url: str = ""
    service: int = 0
    reason: str = ""
    draining: tuple[str, ...] = ()
    token: str = ""


class Files:
    """The folder of one deployment.

    Args:
        folder: Where it is; it may not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "versions"
        self.processes = folder / "processes"
        self.log = folder / "service.log"
        self._mark, self._wanted, self._state = (folder / f"{one}.json" for one in ("deployment", "wanted", "state"))
        self.supervising, self.serving, self.changing = (
            folder / f"{one}.lock" for one in ("supervisor", "service", "change")
        )

    @property
    def known(self) -> tuple[Path, ...]:
        """The files that may be removed with the deployment; the last one marks the folder as a deployment."""
        locks = (self.supervising, self.serving, self.changing)
        return (self._wanted, self._state, self.log, self.log.with_suffix(".log.1"), *locks, self._mark)

    def create(self) -> None:
        """Create the folder; other users of the machine cannot read it."""
        self.folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        _write(self._mark, {"format": _FORMAT})
        self.versions.mkdir(exist_ok=True)
        self.processes.mkdir(exist_ok=True)

    def exists(self) -> bool:
        """Return whether there is such a deployment.

        Raises:
            DeployError: If the folder is somebody else's.
        """
        try:
            if not any(not path.name.startswith(".") for path in self.folder.iterdir()):
                return False
            mark = _read(self._mark) or {}
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DeployError(
                f"{self.folder} cannot be read: {error.strerror}.", hint="choose another folder=."
            ) from error
        if mark.get("format") != _FORMAT:
            raise DeployError(f"{self.folder} is not a deployment of unitrain.", hint="choose another name or folder=.")
        return True

    def wanted(self) -> Wanted | None:
        """Return what the supervisor is to run."""
        found = _read(self._wanted)
        return None if found is None else Wanted(**found)

    def want(self, wanted: Wanted) -> None:
        """Tell the supervisor what to run; the caller holds ``change()``."""
        _write(self._wanted, asdict(wanted))

    def forget(self, before: Wanted | None) -> None:
        """Want what was wanted before; the caller holds ``change()``."""
        if before is None:
            self._wanted.unlink(missing_ok=True)
        else:
            self.want(before)

    def state(self) -> State | None:
        """Return what the supervisor said last; None if there never was one."""
        found = _read(self._state)
        return None if found is None else State(**{**found, "draining": tuple(found["draining"])})

    def tell(self, state: State) -> None:
        """Write what the supervisor says.

        Raises:
            OSError: If the disk is full, or the folder is gone.
        """
        if not self._mark.exists():
            raise FileNotFoundError(str(self.folder))
        _write(self._state, asdict(state))

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Let nobody else change what is wanted, or remove the deployment, meanwhile.

        Raises:
            DeployError: If it was removed.
        """
        try:
            handle = locked(self.changing, wait=True)
        except FileNotFoundError:
            raise DeployError(f"{self.folder.name!r} has been undeployed meanwhile.", hint="deploy again.") from None
        try:
            yield
        finally:
            os.close(handle)

    def sweep(self) -> None:
        """Remove what killed writers left."""
        sweep(self.folder)

    def log_size(self) -> int:
        """Return how long the log is."""
        return self.log.stat().st_size if self.log.exists() else 0

    def reason(self, since: int) -> str:
        """Return what a service has written as its reason to end.

        Args:
            since: The length of the log when it was started.
        """
        with contextlib.suppress(OSError), self.log.open("rb") as file:
            file.seek(max(since, self.log_size() - _LOG_END))
            told = file.read().decode(errors="replace").rpartition("serve: ")[2]
            return " ".join(told.split())
        return ""


def _write(path: Path, content: dict[str, Any]) -> None:
    with written(path) as file:
        file.write(json.dumps(content).encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DeployError(f"{path} was not written by unitrain: {error}.", hint="choose another name.") from error
    return found
