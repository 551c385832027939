"""What a script does to the supervisor of a deployment, and waits for."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import unitrain
from unitrain.deployment.providers.local.locks import end, holder, is_held, locked
from unitrain.deployment.providers.local.service import recorded
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.deployment.providers.local.files import Files, Wanted
    from unitrain.deployment.steps import Poll

_SUPERVISOR: Final = "unitrain.deployment.providers.local.supervisor"
_PATIENCE: Final = 60.0
"""Seconds for a service without a supervisor to end, before it is killed."""
_TICK: Final = 0.02
_VERSION: Final = re.compile(r"[0-9a-f]{10}|\.[0-9a-f]{12}\.part")


def want(files: Files, wanted: Wanted, before: Wanted | None) -> None:
    """Let the supervisor run what is wanted, and start one if there is none.

    Args:
        files: Of the deployment.
        wanted: What to run.
        before: What was wanted when the plan was made.

    Raises:
        DeployError: If another call has changed that meanwhile, or is about to.
    """
    with files.change():
        state = files.state()
        told = before is None or state is None or state.call == before.call
        is_pending = is_held(files.supervising) and not told
        if files.wanted() != before or is_pending:
            raise DeployError(
                f"another deploy of {files.folder.name!r} is running.", hint="deploy again when it has ended."
            )
        files.want(wanted)
        if not is_held(files.supervising):
            _end_orphans(files)
            _start(files)


def give_back(files: Files, call: str, before: Wanted | None, *, ran: bool) -> None:
    """Let run again what ran before a call, unless another call wants something else by now.

    Args:
        files: Of the deployment.
        call: The one that is taken back.
        before: What was wanted before it.
        ran: Whether that was running.
    """
    with files.change():
        wanted = files.wanted()
        if wanted is None or wanted.call != call:
            return
        files.forget(before)
        if ran and not is_held(files.supervising):
            _start(files)


def _start(files: Files) -> None:
    home = str(Path(unitrain.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    before = files.log_size()
    with files.log.open("ab") as log:
        done = subprocess.run(  # noqa: S603 - this Python
            [sys.executable, "-m", _SUPERVISOR, str(files.folder)],
            env={**os.environ, "PYTHONPATH": path},
            cwd=files.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the script
            check=False,
        )
    if done.returncode:
        raise DeployError(f"the supervisor did not start: {files.reason(before)}", hint="is the disk full?")


def _end_orphans(files: Files) -> None:
    """End services whose supervisor was killed."""
    deadline = time.monotonic() + _PATIENCE
    _signal_services(files, signal.SIGTERM)
    while is_held(files.serving):
        if time.monotonic() > deadline:
            _signal_services(files, signal.SIGKILL)
        if time.monotonic() > deadline + 1:
            raise DeployError("a service without a supervisor does not end.", hint=f"see {files.processes}.")
        time.sleep(_TICK)


def _signal_services(files: Files, number: signal.Signals) -> None:
    for pid in recorded(files):
        end(pid, files.folder, number)


def until_running(files: Files, wanted: Wanted) -> str | None:
    """Return the state of the deployment, or None if it answers as wanted.

    Raises:
        DeployError: If it cannot: the reason is that of the service.
    """
    if files.wanted() != wanted:
        raise DeployError(f"another deploy of {files.folder.name!r} has replaced this one.", hint="deploy again.")
    lives, state = is_held(files.supervising), files.state()
    if state is not None and state.call == wanted.call:
        if state.version != wanted.version or state.state in ("Failed", "Stopped"):
            raise DeployError(
                f"the service did not start: {state.reason}", hint="`unitrain bundle --check` shows more."
            )
        if lives and state.state == "InService":
            return None
    if not lives:
        raise DeployError(f"the supervisor has ended: {files.reason(0)[-500:]}", hint="deploy again.")
    if state is None:
        return "Starting"
    return "Updating" if state.state == "InService" else state.state  # the supervisor is about to look


def stop(files: Files) -> None:
    """Tell the supervisor, or services without one, to finish what was accepted and end."""
    supervisor = holder(files.supervising)
    if supervisor is not None:
        end(supervisor, files.folder, signal.SIGTERM)
    elif is_held(files.serving):
        _signal_services(files, signal.SIGTERM)


def stop_call(files: Files, call: str) -> None:
    """Stop what a call has started, unless another call has taken over."""
    if files.folder.is_dir():
        with files.change():
            wanted = files.wanted()
            if wanted is not None and wanted.call == call:
                stop(files)


def until_stopped(files: Files, call: str | None = None) -> Poll:
    """Return what tells the state of what still lives; a service without a supervisor is killed in the end.

    Args:
        files: Of the deployment.
        call: What another call wants is not waited for; None to wait for everything.
    """
    began = time.monotonic()

    def ready() -> str | None:
        wanted = files.wanted() if files.folder.is_dir() else None
        if call is not None and (wanted is None or wanted.call != call):
            return None
        if not is_held(files.serving) and not is_held(files.supervising):
            return None
        if time.monotonic() > began + _PATIENCE and not is_held(files.supervising):
            _signal_services(files, signal.SIGKILL)
        return "Stopping"

    return ready


def remove_version(files: Files, version: str) -> None:
    """Remove a copy of a bundle that nobody runs."""
    with files.change():
        state, wanted = files.state(), files.wanted()
        used = {state.version, *state.draining} if state is not None and is_held(files.serving) else set()
        if version not in used and (wanted is None or version != wanted.version):
            shutil.rmtree(files.versions / version, ignore_errors=True)


def remove_if_unused(files: Files) -> None:
    """Remove what is left of a deployment that never answered."""
    if files.folder.is_dir() and files.wanted() is None:
        with contextlib.suppress(OSError):  # another call's copy is there
            files.versions.rmdir()
            remove(files)


def remove(files: Files) -> None:
    """Remove what unitrain wrote of a deployment that has stopped; nobody can start it meanwhile.

    Raises:
        DeployError: If it runs.
    """
    with files.change():
        try:
            held = [locked(files.supervising), locked(files.serving)]
        except BlockingIOError:
            raise DeployError(f"{files.folder.name!r} has been started again.", hint="undeploy again.") from None
        try:
            _remove(files)
        finally:
            for one in held:
                os.close(one)


def _remove(files: Files) -> None:
    for path in files.versions.iterdir() if files.versions.is_dir() else ():
        if _VERSION.fullmatch(path.name):
            shutil.rmtree(path)
    shutil.rmtree(files.processes, ignore_errors=True)
    with contextlib.suppress(OSError):
        files.versions.rmdir()
    files.sweep()
    *own, mark = files.known
    others = [path.name for path in files.folder.iterdir() if path not in (*own, mark)]
    for path in own:
        path.unlink(missing_ok=True)
    if others:
        warnings.warn(f"{files.folder} is kept: unitrain did not write {', '.join(sorted(others))}.", stacklevel=2)
        return
    mark.unlink(missing_ok=True)
    files.folder.rmdir()


def leftovers(files: Files, version: str) -> Iterator[Step]:
    """Yield the steps that remove all copies but ``version``, once nobody runs them."""
    others = sorted(path.name for path in files.versions.iterdir() if _VERSION.fullmatch(path.name))
    others = [one for one in others if one != version and not one.startswith(".")]
    if others:
        yield Step(Verb.WAIT, "requests of", "the old service", ready=lambda: _until_drained(files), is_cleanup=True)
    for one in others:
        yield Step(Verb.DELETE, "copy of the bundle", one, do=partial(remove_version, files, one), is_cleanup=True)


def _until_drained(files: Files) -> str | None:
    state = files.state()
    return "draining" if state is not None and state.draining and is_held(files.supervising) else None
