"""Addresses of monitoring servers, with credentials kept apart."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from unitrain.errors import ConfigError

_LARGEST_PORT = 65535


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server.

    Attributes:
        url: Without credentials.
        user: The user, if the address names one.
        password: The password.
    """

    url: str
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header with the credentials, if there are any."""
        if self.user is None:
            return {}
        plain = f"{self.user}:{self.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(plain).decode()}"}


def http_address(argument: str, value: str, example: str) -> ServerAddress:
    """Return the address in a URL.

    Raises:
        ConfigError: If it is not one of HTTP. The message does not contain the URL, which may contain a password.
    """
    wrong = ConfigError(f"{argument} must be an http:// or https:// URL of a server.", hint=f'"{example}"')
    if not isinstance(value, str):
        raise wrong
    try:
        parts = urlsplit(value.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or "@" in parts.path:
        raise wrong
    place = f"[{host}]" if ":" in host else host
    plain = urlunsplit((parts.scheme, place if port is None else f"{place}:{port}", parts.path.rstrip("/"), "", ""))
    if parts.username is None:
        return ServerAddress(plain)
    return ServerAddress(plain, unquote(parts.username), unquote(parts.password or ""))


def host_and_port(argument: str, value: str, example: str) -> tuple[str, int]:
    """Return the host and the port of ``host:port``; an IPv6 host is in brackets.

    Raises:
        ConfigError: If it is anything else.
    """
    got = "credentials, which it cannot have" if "@" in str(value) else repr(value)
    wrong = ConfigError(f"{argument} must be a host and a port; got {got}.", hint=f'"{example}"')
    if not isinstance(value, str) or "/" in value or "@" in value:
        raise wrong
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or not port:
        raise wrong
    return host, port


def require_port(value: int) -> None:
    """Refuse a port that is none; 0 takes a free one.

    Raises:
        ConfigError: If it is not a whole number from 0 to 65535.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_PORT:
        raise ConfigError(f"port must be a number from 0 to {_LARGEST_PORT}; got {value!r}.", hint="port=9100")
