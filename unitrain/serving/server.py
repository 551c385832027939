"""Runs a service in this process until SIGTERM or Ctrl-C, and finishes what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import uvicorn

from unitrain.errors import ConfigError, UnitrainError
from unitrain.serving.contracts import aliases
from unitrain.serving.http.app import App
from unitrain.serving.http.connection import Connection, Limits
from unitrain.serving.http.routes import OTHER, TEMPLATES
from unitrain.serving.loading import in_thread
from unitrain.serving.metrics import Layout, Numbers
from unitrain.serving.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from unitrain.serving.options import ServiceConfig
    from unitrain.serving.plan import Plan

LOG = logging.getLogger("unitrain.serving")

_KEEP_ALIVE: Final = 75
"""Seconds that an idle connection stays open: longer than proxies keep theirs, which would else use a closed one."""
_BACKLOG: Final = 2048
_SWEEP: Final = 5
"""Ticks of 0.1 s between looks for slow clients and requests."""
_WATCH: Final = 10
"""Ticks between looks at the model files."""


def listen(config: ServiceConfig) -> socket.socket:
    """Return the socket of a service.

    Raises:
        ConfigError: If the address is in use, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    both = config.host == "::" and socket.has_dualstack_ipv6()
    address = (config.host, config.port)
    try:
        made = socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        in_use = getattr(error, "errno", None) == errno.EADDRINUSE
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {reason}.",
            hint="port=0 picks a free port." if in_use else "host= must be an address of this machine.",
        ) from error
    made.set_inheritable(True)
    return made


def listener_of(plan: Plan) -> socket.socket:
    """Return the socket that the process inherited, or a new one."""
    return listen(plan.config) if plan.listener is None else socket.socket(fileno=plan.listener)


def url_of(config: ServiceConfig, listener: socket.socket) -> str:
    """Return the address that clients on this machine use."""
    host = config.host if config.host not in ("", "0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - a comparison
    shown = f"[{host}]" if ":" in host else host
    return f"{config.scheme}://{shown}:{listener.getsockname()[1]}"


def layout_of(models: Mapping[str, Path]) -> Layout:
    """Return where the numbers of a service stand."""
    return Layout(list(models), TEMPLATES)


def make_app(models: Mapping[str, Path], config: ServiceConfig, block: Any = None, worker: int = 0) -> App:
    """Return the application; its models are not loaded yet.

    Args:
        models: The files by name.
        config: The checked options.
        block: The memory that all workers share; None for a single one.
        worker: The place of this one in it.
    """
    layout = layout_of(models)
    numbers = Numbers(layout, bytearray(layout.bytes(1)) if block is None else block, worker)
    served = {name: Served(name, path, config, numbers.of_model(name)) for name, path in models.items()}
    return App(served, config, numbers, aliases())


def _limits(app: App) -> Limits:
    config, count = app.config, partial(app.numbers.refused, OTHER)
    return Limits(config.timeout, config.max_body, config.max_connections, count)


class Others(NamedTuple):
    """Those that answer on the same socket.

    Attributes:
        expected: The descriptions of the models that they serve, by name; None if these may be others.
        answer: Whether they answer while the models are loaded here.
    """

    expected: Mapping[str, Any] | None = None
    answer: bool = False


_NONE: Final = Others()


class Server(uvicorn.Server):
    """uvicorn's server with deadlines, a drain and a regular exit.

    Args:
        app: What answers.
        on_ready: Is called once the models are loaded.
        others: Those that answer on the same socket.

    Attributes:
        error: Why no model could be loaded.
    """

    def __init__(self, app: App, on_ready: Callable[[], None], others: Others = _NONE) -> None:
        config = app.config
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(Connection, limits=_limits(app)),  # type: ignore[arg-type] # it makes one
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                ssl_certfile=config.tls_cert,
                ssl_keyfile=config.tls_key,
                timeout_graceful_shutdown=config.drain_timeout,  # type: ignore[arg-type] # it only waits so long
            )
        )
        self.error: UnitrainError | None = None
        self._app, self._on_ready, self._expected = app, on_ready, others.expected
        self._loads_first = others.answer or others.expected is not None
        self._drained_at: float | None = None
        self._loading: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, so that /health answers, and then load the models; where other workers answer, load first."""
        self._loading = asyncio.get_running_loop().create_task(self._load())
        if self._loads_first:
            await asyncio.wait([self._loading])
        if self.should_exit:
            return  # a signal came, or a model cannot be loaded
        if self._loads_first:
            self._loading.result()
        await super().startup(sockets)
        if self._loads_first:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Look for what is due; called each 0.1 s."""
        if counter % _SWEEP == 0:
            self._sweep()
        if counter % _WATCH == 0 and self._app.config.watch:
            self._watch()
        if self._drained_at is not None and asyncio.get_running_loop().time() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain at the first signal, or end at once while the models are being loaded, and at the second signal."""
        del frame
        if self._drained_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._app.is_draining = True
        if self._loading is not None and not self._loading.done():  # nothing was accepted yet
            self._loading.cancel()
            self.should_exit = True
        delay = self._app.config.drain_delay if sig == signal.SIGTERM else 0
        self._drained_at = asyncio.get_running_loop().time() + delay
        LOG.info("the service is draining: it finishes what it has accepted")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals meanwhile, and end regularly: uvicorn would raise them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
        for one in before:
            signal.signal(one, lambda number, frame: loop.call_soon_threadsafe(self.handle_exit, number, frame))
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
            for served in self._app.served.values():
                served.batcher.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self) -> None:
        try:
            for name, one in self._app.served.items():
                loaded = await in_thread(one.read)
                if self._expected is not None:
                    one.require_same(loaded, self._expected[name])
                one.use(loaded)
        except UnitrainError as error:
            self.error, self.should_exit = error, True
            return
        gc.collect()
        gc.freeze()  # what is loaded stays: a full collection within a request would look at all of it
        if not self._loads_first:
            self._on_ready()

    def _sweep(self) -> None:
        for one in list(self.server_state.connections):
            if isinstance(one, Connection):
                one.close_if_slow()
        for served in self._app.served.values():
            served.batcher.expire()

    def _watch(self) -> None:
        if self._tasks:
            return  # a file is being read again
        for served in self._app.served.values():
            if served.is_ready:
                self._begin(served.reload())


def run(app: App, listener: socket.socket, on_ready: Callable[[], None], others: Others = _NONE) -> None:
    """Answer requests until a signal comes.

    Args:
        app: What answers.
        listener: The socket.
        on_ready: Is called once the models are loaded.
        others: As of ``Server``.

    Raises:
        UnitrainError: If a model cannot be loaded.
    """
    server = Server(app, on_ready, others)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve([listener]))
    if server.error is not None:
        raise server.error
