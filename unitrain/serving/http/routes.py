"""The routes of a service, by their paths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from unitrain.serving.http.docs import docs
from unitrain.serving.http.openapi import openapi
from unitrain.serving.messages import HTML, TEXT, Call, Response, json_response
from unitrain.serving.metrics import exposition, statistics
from unitrain.serving.page.page import page
from unitrain.serving.protocols import open_inference, plain
from unitrain.serving.refusals import NOT_FOUND, UNAVAILABLE, Refusal
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.serving.metrics import Numbers
    from unitrain.serving.options import ServiceConfig
    from unitrain.serving.served import Served

Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


class Service(Protocol):
    """What the routes are of; see ``App``."""

    served: Mapping[str, Served]
    config: ServiceConfig
    numbers: Numbers
    is_draining: bool

    @property
    def needs_token(self) -> bool:
        """Whether clients must send a token."""
        ...


class Route(NamedTuple):
    """What is at a path.

    Attributes:
        template: The path with ``{model}`` for the name of a model; the label of metrics.
        methods: The handlers by HTTP method.
        served: The model that the path means, or None.
        is_open: Whether it needs no token.
    """

    template: str
    methods: Mapping[str, Handler]
    served: Served | None = None
    is_open: bool = False


OF_MODELS: Final[Mapping[str, tuple[str, Handler]]] = {
    "/models/{model}/predict": ("POST", plain.predict),
    "/v2/models/{model}": ("GET", lambda call: _now(open_inference.metadata(call))),
    "/v2/models/{model}/ready": ("GET", lambda call: _now(_model_ready(call))),
    "/v2/models/{model}/infer": ("POST", open_inference.infer),
}
"""The routes that each model has, with their method and handler; those of /v2 also under ``/versions/1``."""
OF_THE_MODEL: Final = ("/predict", "/invocations")
"""The routes of a service with a single model."""


def routes_of(app: Service, aliases: Mapping[str, str]) -> dict[str, Route]:
    """Return the routes by path.

    Args:
        app: Has the models.
        aliases: Further paths of routes, by the path.
    """
    handlers = _Handlers(app)
    found = {
        **{
            path: Route(path, {"GET": partial(handler, handlers)}, is_open=is_open)
            for path, (handler, is_open) in _OF_SERVICE.items()
        },
        **dict(_of_models(app.served)),
    }
    if len(app.served) == 1:
        found.update({path: Route(path, {"POST": plain.predict}, _only(app)) for path in OF_THE_MODEL})
    else:
        found.update({path: Route(path, {"POST": _several(app)}) for path in OF_THE_MODEL})
    for path, of in aliases.items():
        found.setdefault(path, found[of])
    return found


def _of_models(served: Mapping[str, Served]) -> Iterator[tuple[str, Route]]:
    version = f"/versions/{open_inference.VERSION}"
    for name, one in served.items():
        for template, (method, handler) in OF_MODELS.items():
            route = Route(template, {method: handler}, one)
            yield template.format(model=name), route
            if template.startswith("/v2"):
                own = template.partition("{model}")
                yield f"{own[0]}{name}{version}{own[2]}", route


def _only(app: Service) -> Served:
    return next(iter(app.served.values()))


def _several(app: Service) -> Handler:
    names = ", ".join(f"/models/{name}/predict" for name in app.served)

    async def refuse(_: Call) -> Response:
        raise Refusal(NOT_FOUND, f"several models are served; use {names}.")

    return refuse


_FRAMED: Final = ((b"x-frame-options", b"DENY"),)
"""No other site may show a page of ours within its own."""


class _Handlers:
    """Handlers of what is not of one model.

    Args:
        app: Has the models.
    """

    def __init__(self, app: Service) -> None:
        self._app = app

    async def live(self, _: Call) -> Response:
        return json_response({"live": True})

    async def health(self, _: Call) -> Response:
        is_loaded = all(one.is_ready for one in self._app.served.values())
        status = "draining" if self._app.is_draining else "healthy" if is_loaded else "loading"
        return json_response({"status": status}, 200 if status == "healthy" else UNAVAILABLE)

    async def server(self, _: Call) -> Response:
        return json_response({"name": "unitrain", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def models(self, _: Call) -> Response:
        return json_response({"models": _described(self._app)})

    async def stats(self, _: Call) -> Response:
        return json_response(statistics(self._app.numbers))

    async def metrics(self, _: Call) -> Response:
        if not self._app.config.metrics:
            raise Refusal(NOT_FOUND, "metrics are switched off (--no-metrics).")
        return Response(exposition(self._app.numbers, _described(self._app)), TEXT)

    async def page(self, _: Call) -> Response:
        # anyone may have the page, so behind a token it asks for the models itself
        models = [] if self._app.needs_token else _described(self._app)
        return Response(page(models, version=__version__).encode(), HTML, headers=_FRAMED)

    async def document(self, _: Call) -> Response:
        return json_response(self._openapi())

    async def docs(self, _: Call) -> Response:
        return Response(docs(self._openapi()).encode(), HTML, headers=_FRAMED)

    def _openapi(self) -> dict[str, Any]:
        return openapi(_described(self._app), needs_token=self._app.needs_token)


_OF_SERVICE: Final[Mapping[str, tuple[Callable[[_Handlers, Call], Awaitable[Response]], bool]]] = {
    **dict.fromkeys(("/health", "/ping", "/v2/health/ready"), (_Handlers.health, True)),
    **dict.fromkeys(("/live", "/v2/health/live"), (_Handlers.live, True)),
    "/v2": (_Handlers.server, False),
    "/models": (_Handlers.models, False),
    "/stats": (_Handlers.stats, False),
    "/metrics": (_Handlers.metrics, False),
    "/openapi.json": (_Handlers.document, False),
    "/docs": (_Handlers.docs, False),
    "/": (_Handlers.page, True),
}
"""The routes that are not of one model: handler, and whether it needs no token."""
OTHER: Final = "other"
TEMPLATES: Final = (*OF_MODELS, *OF_THE_MODEL, *_OF_SERVICE, OTHER)
"""The labels of metrics."""


def _described(app: Service) -> list[dict[str, object]]:
    return [one.loaded.described() for one in app.served.values() if one.is_ready]


def _model_ready(call: Call) -> Response:
    return json_response({"ready": call.model.is_ready}, 200 if call.model.is_ready else UNAVAILABLE)


async def _now(response: Response) -> Response:
    return response
