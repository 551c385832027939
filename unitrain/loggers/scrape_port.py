"""The port on which Prometheus reads a run's values."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL = 0.05
"""Seconds after which the server notices that it is to end."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; training goes on."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 5  # a client that sends nothing must not keep a thread for good

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class ScrapePort:
    """A server for one WSGI app.

    Attributes:
        port: The port that it listens on.

    Args:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        app: The WSGI app; only ``/metrics`` reaches it.

    Raises:
        ConfigError: If the port is in use, or the address is not one of this machine.
    """

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} for Prometheus: {error.strerror or error}.",
                hint="another port=, port=0 for a free one, or pushgateway= for several runs on one machine.",
            ) from error
        self.port: int = self._server.server_address[1]
        self._server.set_app(_only_metrics(app))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="unitrain /metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, for forked loader workers too, which have inherited the socket."""
        with suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _only_metrics(app: Callable[..., Any]) -> Callable[..., Any]:
    def routed(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] == "/metrics":
            return app(environ, start)
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"the metrics are at /metrics\n"]

    return routed
