"""The steps of a deployment on this machine, and the ways back."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.providers.local.control import (
    give_back,
    leftovers,
    remove_if_unused,
    remove_version,
    stop_call,
    until_running,
    until_stopped,
    want,
)
from unitrain.deployment.providers.local.files import Wanted
from unitrain.deployment.providers.local.locks import is_held
from unitrain.deployment.providers.local.token import is_same
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError
from unitrain.serving.options import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unitrain.deployment.providers.local.files import Files, State
    from unitrain.deployment.providers.provider import Request


def steps(files: Files, request: Request, host: str, port: int, *, exists: bool) -> Sequence[Step]:
    """Return the steps: a copy of the bundle, the service, and the removal of other copies.

    Args:
        files: Of the deployment.
        request: What to deploy.
        host: The address to listen on.
        port: The port, or 0.
        exists: Whether there is a deployment of that name.
    """
    others = leftovers(files, request.identity) if exists else ()
    return [_copy(files, request), _service(files, request, host, port), *others]


def _copy(files: Files, request: Request) -> Step:
    """Return the step that copies the bundle, so that the user's folder can change."""
    place = files.versions / request.identity
    if _is_intact(place, request):
        return Step(Verb.KEEP, "copy of the bundle", request.identity)
    made: list[Path] = []

    def copy() -> None:
        files.create()
        part = files.versions / f".{request.call}.part"
        shutil.copytree(request.bundle.path, part, ignore=shutil.ignore_patterns("*.tar.gz"))
        if read_bundle(part).digest != request.bundle.digest:
            raise DeployError(f"{request.bundle.path} was changed meanwhile.", hint="deploy again.")
        if not _is_intact(place, request):
            shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # another call was first
            part.rename(place)
            made.append(place)
        shutil.rmtree(part, ignore_errors=True)

    def take_back() -> None:
        shutil.rmtree(files.versions / f".{request.call}.part", ignore_errors=True)
        if made:
            remove_version(files, request.identity)
        remove_if_unused(files)

    undo = Step(Verb.DELETE, "copy of the bundle", request.identity, do=take_back)
    return Step(Verb.CREATE, "copy of the bundle", request.identity, do=copy, undo=(undo,))


def _service(files: Files, request: Request, host: str, port: int) -> Step:
    """Return the step that starts the service, or replaces the one that runs."""
    before, state = (files.wanted(), files.state()) if files.folder.is_dir() else (None, None)
    wanted = Wanted(request.identity, request.call, host, port)
    if before is None or state is None or not is_held(files.supervising):
        verb, undo = Verb.CREATE, _end_again(files, request.call, before)
    elif before.version == request.identity and (state.call != before.call or state.version == before.version):
        _require_token(state, request.name)
        return Step(Verb.KEEP, "service", request.name, ready=lambda: until_running(files, before))
    else:
        _require_token(state, request.name)
        back = replace(before, version=state.version, call=f"{request.call}-back")
        verb, undo = Verb.UPDATE, (_run_again(files, back),)
    return Step(
        verb,
        "service",
        request.name,
        f"port {port}" if port else "",
        do=lambda: want(files, wanted, before),
        ready=lambda: until_running(files, wanted),
        undo=undo,
    )


def _is_intact(place: Path, request: Request) -> bool:
    """Return whether there is a copy of the bundle whose files are right."""
    try:
        return place.is_dir() and read_bundle(place).digest == request.bundle.digest
    except DeployError:
        return False


def _require_token(state: State, name: str) -> None:
    """Refuse an update that would leave the token as it is, where the environment has another one."""
    if not is_same(state.token):
        raise DeployError(
            f"{TOKEN_VARIABLE} is not the one that {name!r} was started with; an update keeps the environment.",
            hint="undeploy it first, or set the same token.",
        )


def _end_again(files: Files, call: str, before: Wanted | None) -> tuple[Step, ...]:
    """Return the steps that end what a call has started, and start again what ran before it."""
    ran, name = is_held(files.serving), files.folder.name

    def ready() -> str | None:
        return until_running(files, before) if before is not None and ran and files.wanted() == before else None

    end = Step(Verb.DELETE, "service", name, do=lambda: stop_call(files, call), ready=until_stopped(files, call))
    return (end, Step(Verb.UPDATE, "service", name, do=lambda: give_back(files, call, before, ran=ran), ready=ready))


def _run_again(files: Files, back: Wanted) -> Step:
    """Return the step that lets the supervisor run what it ran before, unless another call wants something else."""

    def do() -> None:
        with files.change():
            wanted = files.wanted()
            if wanted is not None and f"{wanted.call}-back" == back.call:
                files.want(back)

    def ready() -> str | None:
        return until_running(files, back) if files.wanted() == back else None

    return Step(Verb.UPDATE, "service", files.folder.name, do=do, ready=ready)
