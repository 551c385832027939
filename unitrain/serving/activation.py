"""A service whose starter holds the socket: socket activation and readiness, as systemd defines them.

Sources: ``sd_listen_fds(3)`` and ``sd_notify(3)``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final, NamedTuple

from unitrain.errors import ConfigError

_FIRST: Final = 3
"""The number of the first inherited socket."""


class Listener(NamedTuple):
    """An inherited socket.

    Attributes:
        number: Of its file.
        host: The address that it listens on.
        port: Its port.
    """

    number: int
    host: str
    port: int


def inherited_listener() -> Listener | None:
    """Return the socket that the starter holds for this process, or None; it is returned once.

    Raises:
        ConfigError: If there are several, or it is not one of TCP.
    """
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if pid != str(os.getpid()) or count is None:
        return None
    if count != "1":
        raise ConfigError(
            f"a service listens on one socket; LISTEN_FDS={count!r:.20} passes others.", hint="one ListenStream= only."
        )
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    try:
        with socket.socket(fileno=os.dup(_FIRST)) as inherited:
            is_tcp = inherited.family in (socket.AF_INET, socket.AF_INET6) and inherited.type == socket.SOCK_STREAM
            if is_tcp and inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                host, port = inherited.getsockname()[:2]
                return Listener(_FIRST, host, port)
    except OSError as error:
        reason = error.strerror or str(error)
    else:
        reason = "it is none that listens on TCP"
    raise ConfigError(f"the socket that LISTEN_FDS passes cannot be used: {reason}.", hint="ListenStream=8000")


def notify(state: str) -> None:
    """Tell the starter a state such as ``"READY=1"``, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # a name without a file
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(state.encode(), address)
