"""Which values of the header ``Host`` a service answers.

A page of another site can ask a service on loopback once its own name resolves to 127.0.0.1 (DNS rebinding), and the
browser lets it read the answers. Its requests still name the site in ``Host``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from unitrain.serving.refusals import MISDIRECTED, Refusal
from unitrain.utilities.hosts import LOOPBACK

if TYPE_CHECKING:
    from unitrain.serving.options import ServiceConfig

ANY: Final = "*"
_NAME_AND_PORT: Final = re.compile(rb"\[?(.*?)\]?\.?(?::\d*)?", re.DOTALL)

_MOST_SEEN: Final = 100
"""Accepted values that are kept, so that a request costs one look."""


class Hosts:
    """The hosts that a service answers to.

    Args:
        config: Of the service. Without ``allowed_hosts``, only a service that this machine alone can reach, and that
            asks for no token, looks at the header.
        has_token: Whether clients must send a token.
    """

    def __init__(self, config: ServiceConfig, *, has_token: bool) -> None:
        is_asked = config.allowed_hosts is not None or (config.is_local and not has_token)
        names = {*LOOPBACK, config.host.lower(), *(config.allowed_hosts or ())}
        self._names = None if not is_asked or ANY in names else {name.encode() for name in names}
        self._seen: set[bytes] = set()

    def require(self, given: bytes | None) -> None:
        """Refuse a request for another host; one without the header comes from no browser.

        Raises:
            Refusal: If the host is not accepted.
        """
        if self._names is None or given is None or given in self._seen:
            return
        found = _NAME_AND_PORT.fullmatch(given.lower())
        if found is None or found[1] not in self._names:
            shown = given.decode("latin-1")
            raise Refusal(
                MISDIRECTED,
                f"this service does not answer to the host {shown!r:.80}; --allowed-hosts (allowed_hosts=) accepts"
                " further names.",
            )
        if len(self._seen) < _MOST_SEEN:
            self._seen.add(given)
