"""``unitrain.serve``: serve exported models."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

from unitrain.errors import ConfigError, complete_call
from unitrain.serving.activation import inherited_listener, notify
from unitrain.serving.child import ModelServer
from unitrain.serving.logs import configure
from unitrain.serving.options import TOKEN_VARIABLE, named_models, require_installed, service_config
from unitrain.serving.plan import Plan
from unitrain.utilities.warning import warn_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.serving.http.app import App
    from unitrain.serving.options import ServeOptions


@complete_call(ConfigError, 'unitrain.serve("model.onnx"), or unitrain.serve({"a": "a.onnx", "b": "b.pt2"})')
def serve(
    models: str | Path | Mapping[str, str | Path], *, block: bool = True, **options: Unpack[ServeOptions]
) -> ModelServer | None:
    """Serve exported models over HTTP until SIGTERM or Ctrl-C.

    Args:
        models: The path of a file that ``trainer.export`` wrote (``.onnx``, ``.pt2``, ``.pt``), a foreign ``.onnx``, or
            several by name.
        block: False starts a process beside this one, and returns its handle once it is ready. With True, a socket that
            systemd passes (``LISTEN_FDS``) is used instead of ``host`` and ``port``, and ``NOTIFY_SOCKET`` is told.
        **options: ``port=8000``, ``workers=2`` and others; see ``unitrain.serving.options.ServeOptions``.

    Returns:
        None, or with ``block=False`` the handle: ``url``, ``stop()``, a context manager.

    Raises:
        ConfigError: If an option is invalid, the port is in use, or a package is missing.
        ExportError: If a model cannot be loaded.

    Example:
        >>> _ = export_module(torch.nn.Linear(4, 3), "model.onnx", example_input=torch.randn(8, 4))
        >>> with serve("model.onnx", port=0, block=False) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """
    require_installed()
    plan = Plan(named_models(models), service_config(options))
    if not block:
        _warn_if_open(plan)
        return ModelServer(plan)
    if _in_event_loop():
        raise ConfigError("serve() cannot block here: an event loop is running, as in a notebook.", hint="block=False")
    from unitrain.serving.process import serve_plan  # noqa: PLC0415 - it needs the packages

    def ready(url: str, _: object) -> None:
        print(f"{', '.join(plan.models)} at {url} (Ctrl-C stops)", flush=True)  # noqa: T201 - for the person who waits
        notify("READY=1")

    configure(plan.config.log_format)
    plan = _with_inherited_listener(plan)
    _warn_if_open(plan)
    serve_plan(plan, ready)
    return None


def _with_inherited_listener(plan: Plan) -> Plan:
    found = inherited_listener()
    if found is None:
        return plan
    config = replace(plan.config, host=found.host, port=found.port)
    return replace(plan, config=config, listener=found.number, loads_first=True)


def make_asgi(models: str | Path | Mapping[str, str | Path], **options: Unpack[ServeOptions]) -> App:
    """Return the service as an ASGI application, to be mounted in another one; the models are loaded.

    Args:
        models: As in ``serve``.
        **options: As in ``serve``; those of the process (host, port, workers, TLS) have no meaning and raise.

    Raises:
        ConfigError: If an option is invalid or belongs to a process.
        ExportError: If a model cannot be loaded.
    """
    of_a_process = (
        "host",
        "port",
        "allowed_hosts",
        "workers",
        "tls_cert",
        "tls_key",
        "watch",
        "max_connections",
        "log_format",
        "timeout",
        "drain_delay",
        "drain_timeout",
    )
    given = [name for name in of_a_process if name in options]
    if given:
        raise ConfigError(f"{given[0]}= belongs to the server that mounts the application.", hint="remove it.")
    require_installed()
    from unitrain.serving.server import make_app  # noqa: PLC0415 - it needs the packages

    config = replace(service_config(options), allowed_hosts=("*",))  # the server that mounts it knows its names
    app = make_app(named_models(models), config)
    for one in app.served.values():
        one.use(one.read())
    return app


def _warn_if_open(plan: Plan) -> None:
    if not plan.config.is_local and plan.config.token() is None:
        warn_caller(
            f"host={plan.config.host!r} lets other machines connect, and there is no token: anyone can ask the model."
            f" token_file=, or the variable {TOKEN_VARIABLE}, protects it."
        )


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def serve_trained(export: Callable[[Path], object], format: str, options: Mapping[str, Any]) -> ModelServer:  # noqa: A002
    """Serve what ``export`` writes to the path that it is given; the file is removed at the end.

    Raises:
        ConfigError: If the format cannot be served, or an option is invalid; nothing is exported then.
    """
    if format not in _SUFFIXES:
        raise ConfigError(f"the format {format!r} cannot be served.", hint=f"supported: {', '.join(_SUFFIXES)}.")
    require_installed()
    config = service_config(options)
    folder = Path(tempfile.mkdtemp(prefix="unitrain-serve-"))
    try:
        path = folder / f"model{_SUFFIXES[format]}"
        export(path)
        plan = Plan({"model": path}, config)
        _warn_if_open(plan)
        return ModelServer(plan, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


_SUFFIXES: Final = {"onnx": ".onnx", "torch_export": ".pt2", "torchscript": ".pt"}
