"""``provider="local"``: plans, asks, and starts the supervisor."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a setting's type
from typing import TYPE_CHECKING, Any, ClassVar, Final

from unitrain.deployment.providers.local.control import remove, stop, until_stopped
from unitrain.deployment.providers.local.files import Files
from unitrain.deployment.providers.local.locks import is_held
from unitrain.deployment.providers.local.plan import steps
from unitrain.deployment.providers.local.token import token
from unitrain.deployment.providers.provider import Status
from unitrain.deployment.settings import place, setting
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError
from unitrain.serving.options import TOKEN_VARIABLE
from unitrain.utilities.files import user_path
from unitrain.utilities.hosts import LOOPBACK
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.deployment.providers.provider import Request

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_PORTS: Final = 65535
_PATIENCE: Final = 60.0
"""Seconds for an answer."""
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy of the environment has no part in this, and must not see the token."""


@dataclass(frozen=True)
class Settings:
    """The settings of ``provider="local"``.

    Attributes:
        folder: Where deployments are kept.
        host: The address to listen on.
        port: The port; 0 picks a free one, and keeps it in updates.
    """

    folder: str | Path | None = place("where deployments are kept; default: unitrain in the user's state folder")
    host: str = setting("the address to listen on", default="127.0.0.1")
    port: int = setting("the port; 0 picks a free one", default=0, kind=int)

    def __post_init__(self) -> None:
        """Refuse invalid values.

        Raises:
            DeployError: For the first of them.
        """
        is_port = isinstance(self.port, int) and not isinstance(self.port, bool) and 0 <= self.port <= _PORTS
        if not is_port:
            raise DeployError(f"port= must be a whole number from 0 to {_PORTS}; got {self.port!r:.80}.", hint="port=0")
        if not isinstance(self.host, str) or not self.host:
            raise DeployError(f"host= must be a text; got {self.host!r:.80}.", hint='host="127.0.0.1"')


class Local:
    """Runs bundles on this machine.

    Args:
        settings: Its settings.

    Raises:
        DeployError: On a system without the means.
    """

    name: ClassVar[str] = "local"
    settings_type: ClassVar[type] = Settings
    targets: ClassVar[tuple[str, ...]] = ("docker", "kserve", "sagemaker", "vertex")

    def __init__(self, settings: Settings) -> None:
        if os.name != "posix":
            raise DeployError('provider="local" needs a POSIX system.', hint="run the bundle's `serve` by hand.")
        self.settings = settings
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        self._root = user_path(settings.folder or f"{state}/unitrain/deployments").absolute()

    def check_name(self, name: str) -> None:
        """Refuse what cannot be the name of a folder everywhere.

        Raises:
            DeployError: If it is invalid.
        """
        if not _NAME.fullmatch(name):
            raise DeployError(
                f"name={name!r:.80} is invalid: 1 to 63 letters, digits and '-' within are accepted.", hint="digits-2"
            )

    def plan(self, request: Request) -> Sequence[Step]:
        """Return the steps: a copy of the bundle, the service, and the removal of other copies."""
        files = Files(self._root / request.name)
        exists = files.exists()
        self._warn_if_open()
        return steps(files, request, self.settings.host, self.settings.port, exists=exists)

    def _warn_if_open(self) -> None:
        if self.settings.host not in LOOPBACK and not token():
            warn_caller(
                f"host={self.settings.host!r} lets other machines connect, and there is no token: anyone can ask the"
                f" model. The variable {TOKEN_VARIABLE} protects it."
            )

    def removal(self, name: str) -> Sequence[Step]:
        """Return the steps: the service ends, then its files are removed."""
        files = Files(self._root / name)
        if not files.exists():
            return []
        found = []
        if is_held(files.serving):
            found.append(Step(Verb.DELETE, "service", name, do=lambda: stop(files), ready=until_stopped(files)))
        return [*found, Step(Verb.DELETE, "folder", str(files.folder), do=lambda: remove(files))]

    def status(self, name: str) -> Status:
        """Return the state that the supervisor has told, if it lives."""
        files = Files(self._root / name)
        state = files.state() if files.exists() else None
        if state is None:
            return Status(name, "absent", is_ready=False)
        details = {
            "url": f"{state.url}/predict",
            "version": state.version,
            "pid": str(state.service),
            "log": str(files.log),
        }
        if not is_held(files.supervising):
            word = "Orphaned" if is_held(files.serving) else "Stopped"
            word = state.state if state.state == "Failed" else word
            is_ready = word == "Orphaned" and bool(state.url)
            return Status(name, word, is_ready=is_ready, reason=state.reason, details=details)
        return Status(name, state.state, state.state in ("InService", "Updating"), state.reason, details)

    def url(self, name: str) -> str:
        """Return the address of the service.

        Raises:
            DeployError: If there is none.
        """
        files = Files(self._root / name)
        state = files.state() if files.exists() else None
        if state is None or not state.url or not is_held(files.serving):
            raise DeployError(f"no deployment {name!r} is running.", hint="unitrain.deploy(...) starts one.")
        return f"{state.url}/predict"

    def ask(self, name: str, content: Mapping[str, Any]) -> Any:
        """Send ``content`` to the service, with the token of the environment.

        Raises:
            DeployError: If it is not answered.
        """
        headers = {"Content-Type": "application/json"}
        if token():
            headers["Authorization"] = f"Bearer {token()}"
        asked = urllib.request.Request(self.url(name), json.dumps(content).encode(), headers)  # noqa: S310 - our own
        try:
            with _DIRECT.open(asked, timeout=_PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = error.read(2000).decode(errors="replace")
            raise DeployError(f"the deployment answered {error.code}: {told}", hint=None) from error
        except (OSError, ValueError) as error:
            raise DeployError(
                f"the deployment {name!r} did not answer: {error}.", hint=f"see {self._root / name}/service.log."
            ) from error
