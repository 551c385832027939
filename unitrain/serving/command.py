"""``unitrain serve``: serve exported models over HTTP."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unitrain.errors import ConfigError
from unitrain.serving.options import name_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

_DESCRIPTION = """\
Serve exported models over HTTP. MODEL is a file (.onnx, .pt2, .pt) that `unitrain export` or trainer.export wrote, or
an .onnx of another program; NAME=FILE serves it under a name.
"""

_EPILOG = """\
one model, and a prediction for one row of four numbers:
  unitrain serve model.onnx
  curl http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"data": [1, 2, 3, 4]}'
  {"prediction":[0.1,2.3,-0.4],"confidence":0.83}

two models, for other machines, with a token:
  openssl rand -hex 32 > token; chmod 600 token
  unitrain serve digits=digits.onnx words=words.pt2 --host 0.0.0.0 --token-file token --workers 2

routes: / (a page to try the models), /predict, /models/NAME/predict, /health, /live, /metrics, /openapi.json, /docs,
  the Open Inference Protocol v2 (/v2/...), and those of SageMaker (/ping, /invocations).
The token may be in the variable UNITRAIN_TOKEN instead of a file.

exit status:
  0  SIGTERM or Ctrl-C ended the service; what it had accepted was answered
  1  something is invalid, the port is in use, or a model cannot be loaded
  2  an option is unknown or lacks its value
"""


class _Option(NamedTuple):
    kind: Callable[[str], Any]
    metavar: str
    help: str


_OPTIONS: Final = {
    "--host": _Option(str, "ADDRESS", "the address to listen on; default: 127.0.0.1, this machine only"),
    "--port": _Option(int, "N", "default: 8000; 0 picks a free one"),
    "--allowed-hosts": _Option(
        lambda text: text.split(","), "NAMES", "further names that clients may give as Host, with commas; * for all"
    ),
    "--workers": _Option(int, "N", "processes that share the port; default: 1"),
    "--max-batch": _Option(int, "ROWS", "the most rows of a request and of a run; 1 never joins requests; default: 64"),
    "--max-wait-ms": _Option(float, "MS", "how long a run waits for further requests; default: 0"),
    "--queue": _Option(int, "N", "requests that may wait per worker; more get 503; default: 256"),
    "--max-body": _Option(str, "SIZE", "the largest body; default: 10MB"),
    "--max-connections": _Option(int, "N", "connections per worker; default: 1000"),
    "--timeout": _Option(float, "S", "seconds for a request to arrive, and then to be answered; default: 30"),
    "--drain-delay": _Option(float, "S", "after SIGTERM, /health is 503 and requests are accepted; default: 0"),
    "--drain-timeout": _Option(float, "S", "then, what was accepted is finished; default: 25"),
    "--token-file": _Option(str, "FILE", "the token that clients must send"),
    "--tls-cert": _Option(str, "FILE", "the certificate, as PEM"),
    "--tls-key": _Option(str, "FILE", "its key, as PEM"),
    "--log-format": _Option(str, "FORMAT", "text (default) or json"),
}
_FLAGS: Final = {
    "--metrics": "serve /metrics for Prometheus; on by default",
    "--watch": "load a model file that was replaced; off by default",
    "--access-log": "log each request; off by default",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    from argparse import BooleanOptionalAction  # noqa: PLC0415 - as the parser

    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("models", metavar="[NAME=]MODEL", nargs="+", help="the files to serve")
    for option, about in _OPTIONS.items():
        parser.add_argument(option, type=about.kind, metavar=about.metavar, help=about.help)
    for option, text in _FLAGS.items():
        parser.add_argument(option, action=BooleanOptionalAction, default=None, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes, and return the exit status.

    Raises:
        UnitrainError: If the service cannot start.
    """
    names = [one.removeprefix("--").replace("-", "_") for one in (*_OPTIONS, *_FLAGS)]
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    with _ending_at_signals():
        from unitrain.serving.loading import leave  # noqa: PLC0415 - after `--help`
        from unitrain.serving.serve import serve  # noqa: PLC0415

        serve(_models(arguments.models), block=True, **options)
        return leave(0)


@contextmanager
def _ending_at_signals() -> Iterator[None]:
    """End with 0 at a signal that comes before the service handles signals itself.

    At once: Python ignores a SystemExit that is raised within a finalizer, and imports call many.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: os._exit(0)) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _models(given: list[str]) -> dict[str, Path]:
    """Return the files by name; what is a file is one, whatever is in its name."""
    found: dict[str, Path] = {}
    for one in given:
        name, equals, path = one.partition("=")
        is_named = equals and not Path(one).exists()
        name, file = (name, Path(path)) if is_named else (name_of(Path(one)), Path(one))
        if name in found:
            raise ConfigError(f"two models are called {name!r}.", hint=f"other={file}")
        found[name] = file
    return found
