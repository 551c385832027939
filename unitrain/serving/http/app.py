"""The ASGI application: one request from its route to its response."""

from __future__ import annotations

import hmac
import logging
import secrets
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from unitrain.serving.http.hosts import Hosts
from unitrain.serving.http.routes import OTHER, Route, routes_of
from unitrain.serving.messages import Call, Request, Response, json_response, refused
from unitrain.serving.refusals import (
    BAD_REQUEST,
    FAILED,
    NO_LENGTH,
    NOT_ALLOWED,
    NOT_FOUND,
    TOO_LARGE,
    TOO_SLOW,
    UNAUTHORIZED,
    Refusal,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from unitrain.serving.metrics import Numbers
    from unitrain.serving.options import ServiceConfig
    from unitrain.serving.refusals import Header
    from unitrain.serving.served import Served

LOG = logging.getLogger("unitrain.serving")

_BEARER: Final = b"bearer"
_LONGEST_ID: Final = 128
_CLOSE: Final = ((b"connection", b"close"),)
_LOGGED: Final = (FAILED, TOO_SLOW)
_CANCELLED: Final = 499
"""What a request is counted as, whose client or server went before the answer was sent."""


class _Gone(Exception):  # noqa: N818 - nobody is told
    """The client closed the connection before its request was whole."""


class App:
    """Answers requests; one per event loop.

    Args:
        served: The models by name.
        config: Of the service.
        numbers: What is counted.
        aliases: Further paths of routes, by the path.

    Attributes:
        is_draining: Whether ``/health`` says that no further requests should come.
    """

    def __init__(
        self, served: Mapping[str, Served], config: ServiceConfig, numbers: Numbers, aliases: Mapping[str, str]
    ) -> None:
        self.served, self.config, self.numbers = served, config, numbers
        self.is_draining = False
        self._token = config.token()
        self._hosts = Hosts(config, has_token=self._token is not None)
        self._routes = routes_of(self, aliases)
        self._ids, self._id_prefix = count(1), secrets.token_hex(4)

    @property
    def needs_token(self) -> bool:
        """Whether clients must send a token."""
        return self._token is not None

    def described(self) -> dict[str, Any]:
        """Return the descriptions of the models that are loaded, by name."""
        return {name: one.loaded.described() for name, one in self.served.items() if one.is_ready}

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await _other_protocol(scope["type"], receive, send)
            return
        began = perf_counter()
        self.numbers.began()
        request = self._request(scope["headers"])
        route = self._routes.get(_path(scope))
        status = _CANCELLED
        try:
            response = await self._response(scope, route, request, receive)
            status = response.status
            await self._send(response, request.id, send)
        finally:
            self._account(route, request, status, perf_counter() - began)

    async def _response(self, scope: Any, route: Route | None, request: Request, receive: Any) -> Response:
        try:
            return await self._answer(scope, route, request, receive)
        except Refusal as refusal:
            return refused(refusal)
        except _Gone:
            return Response(b"", status=BAD_REQUEST)
        except Exception:
            LOG.exception("an error in unitrain", extra={"request_id": request.id.decode("latin-1")})
            return json_response({"error": "an internal error; the server's log has it."}, FAILED)

    async def _answer(self, scope: Any, route: Route | None, request: Request, receive: Any) -> Response:
        self._hosts.require(request.host)
        if self._token is not None and not (route is not None and route.is_open):
            self._require_token(request.authorization)
        if route is None:
            raise self._unknown(_path(scope))
        method = scope["method"]
        handler = route.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(route.methods)
            raise Refusal(
                NOT_ALLOWED, f"{route.template} takes {allowed}; got {method:.20}.", [(b"allow", allowed.encode())]
            )
        if method == "POST":
            request.body = await self._body(request, receive)
        return await handler(Call(request, route.served))

    def _request(self, headers: Iterable[Header]) -> Request:
        request = Request()
        for name, value in headers:
            read = _READ.get(name)
            if read is not None:
                read(request, value)
        if not request.id:
            request.id = b"%s-%x" % (self._id_prefix.encode(), next(self._ids))
        return request

    def _require_token(self, given: bytes) -> None:
        assert self._token is not None  # noqa: S101 - for the type checker
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != _BEARER or not hmac.compare_digest(token, self._token):
            got = "none" if not given else "another one"
            raise Refusal(
                UNAUTHORIZED,
                f"this service needs a token, as `Authorization: Bearer TOKEN`; got {got}.",
                [(b"www-authenticate", b"Bearer")],
            )

    async def _body(self, request: Request, receive: Any) -> bytes:
        limit = self.config.max_body
        if request.content_length is None and not request.is_chunked:
            raise Refusal(NO_LENGTH, "a request with a body needs Content-Length or chunked encoding.", _CLOSE)
        if request.content_length is not None and request.content_length > limit:
            raise _too_large(limit)
        message = await receive()
        if not message.get("more_body"):
            if message["type"] == "http.disconnect":
                raise _Gone
            body: bytes = message["body"]
            if len(body) > limit:
                raise _too_large(limit)
            return body
        return await _whole_body(message, receive, limit)

    async def _send(self, response: Response, request_id: bytes, send: Any) -> None:
        headers = [
            (b"content-type", response.content_type),
            (b"content-length", b"%d" % len(response.body)),
            (b"x-request-id", request_id),
            *response.headers,
            *(_CLOSE if self.is_draining else ()),  # else a client may send into a connection that is being closed
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _unknown(self, path: str) -> Refusal:
        parts = path.split("/")
        if "models" in parts[:3] and parts[-1] != "models":
            name = parts[parts.index("models") + 1]
            if name not in self.served:
                return Refusal(NOT_FOUND, f"no model {name!r:.80}; served: {', '.join(self.served)}.")
        return Refusal(NOT_FOUND, f"no route {path!r:.80}; / and /openapi.json show them all.")

    def _account(self, route: Route | None, request: Request, status: int, seconds: float) -> None:
        template = OTHER if route is None else route.template
        model = "" if route is None or route.served is None else route.served.name
        self.numbers.ended(template, model, status)
        if route is not None and route.served is not None:
            route.served.numbers.answered(seconds)
        if self.config.access_log or status in _LOGGED:
            LOG.log(
                logging.ERROR if status in _LOGGED else logging.INFO,
                "%s %s %d %.1f ms",
                template,
                model or "-",
                status,
                seconds * 1000,
                extra={"request_id": request.id.decode("latin-1")},
            )


async def _whole_body(message: Mapping[str, Any], receive: Any, limit: int) -> bytes:
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


def _path(scope: Mapping[str, Any]) -> str:
    """Return the path within the application, which may be mounted in another one."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _too_large(limit: int) -> Refusal:
    return Refusal(TOO_LARGE, f"the body is larger than {limit} bytes (--max-body).", _CLOSE)


def _read_type(request: Request, value: bytes) -> None:
    request.content_type = value.partition(b";")[0].strip().lower()


def _read_length(request: Request, value: bytes) -> None:
    request.content_length = int(value)  # the parser of HTTP has checked it


def _read_id(request: Request, value: bytes) -> None:
    text = value.decode("latin-1")
    if len(text) <= _LONGEST_ID and text.isascii() and text.isprintable():
        request.id = value


def _read_encoding(request: Request, value: bytes) -> None:
    request.is_chunked = b"chunked" in value.lower()


def _read_json_length(request: Request, value: bytes) -> None:
    request.json_length = value


def _read_authorization(request: Request, value: bytes) -> None:
    request.authorization = value


def _read_host(request: Request, value: bytes) -> None:
    request.host = value if request.host is None else b"%s,%s" % (request.host, value)


_READ: Final[Mapping[bytes, Callable[[Request, bytes], None]]] = {
    b"content-type": _read_type,
    b"content-length": _read_length,
    b"transfer-encoding": _read_encoding,
    b"x-request-id": _read_id,
    b"inference-header-content-length": _read_json_length,
    b"authorization": _read_authorization,
    b"host": _read_host,
}


async def _other_protocol(kind: str, receive: Any, send: Any) -> None:
    """Answer what is not HTTP: the start and the end of the server, or a WebSocket, which is refused."""
    while kind == "lifespan":
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
    await receive()
    await send({"type": "websocket.close", "code": 1003})
