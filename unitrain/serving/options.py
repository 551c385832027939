"""The options of a service, checked before anything starts."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from unitrain.errors import ConfigError, install_hint, refuse_unknown
from unitrain.utilities.files import user_path
from unitrain.utilities.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_VARIABLE: Final = "UNITRAIN_TOKEN"  # noqa: S105 - the name of a variable
LOG_FORMATS: Final = ("text", "json")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(i?))?b?", re.IGNORECASE)
_POWERS: Final = {"k": 1, "m": 2, "g": 3}
_HOST: Final = re.compile(r"\*|[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PORTS: Final = 65535
_LONGEST_NAME: Final = 100
_PACKAGES: Final = ("httptools", "numpy", "orjson", "prometheus_client", "uvicorn")
"""Those of the extra ``serve``; what loads a model says itself what it lacks."""


class ServeOptions(TypedDict, total=False):
    """The options of ``unitrain.serve`` and ``trainer.serve``.

    Attributes:
        host: The address to listen on; only this machine can connect to the default.
        port: The port; 0 picks a free one.
        allowed_hosts: Further names that clients may give as ``Host``, beside those of this machine and ``host``;
            ``"*"`` accepts all. By default, a service on loopback without a token answers to no other name, so that a
            page of another site cannot ask it (DNS rebinding); others do not look at the header.
        workers: How many processes share the port.
        max_batch: The most rows of a request, and of one run of the model; 1 never joins requests.
        max_wait_ms: Milliseconds to wait for further requests before a run.
        queue: How many requests may wait per worker; more are answered with 503.
        max_body: The largest request body, in bytes or as ``"10MB"``.
        timeout: Seconds for a request to arrive, and then for its answer.
        drain_delay: Seconds after SIGTERM during which ``/health`` is 503 but requests are still accepted.
        drain_timeout: Seconds for the accepted requests to finish.
        token_file: A file with the token that clients must send; by default the variable ``UNITRAIN_TOKEN``, if set.
        tls_cert: The certificate, as PEM.
        tls_key: Its key, as PEM.
        metrics: Whether ``/metrics`` is served.
        watch: Whether a replaced model file is loaded.
        access_log: Whether each request is logged; the service's own errors (500, 504) always are.
        log_format: ``"text"`` or ``"json"``.
        max_connections: How many connections each worker holds; further ones are answered with 503.
    """

    host: str
    port: int
    allowed_hosts: Sequence[str] | None
    workers: int
    max_batch: int
    max_wait_ms: float
    queue: int
    max_body: int | str
    timeout: float
    drain_delay: float
    drain_timeout: float
    token_file: str | Path | None
    tls_cert: str | Path | None
    tls_key: str | Path | None
    metrics: bool
    watch: bool
    access_log: bool
    log_format: str
    max_connections: int


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Checked options; see ``ServeOptions``."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] | None = None
    workers: int = 1
    max_batch: int = 64
    max_wait_ms: float = 0.0
    queue: int = 256
    max_body: int = 10**7
    timeout: float = 30.0
    drain_delay: float = 0.0
    drain_timeout: float = 25.0
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    metrics: bool = True
    watch: bool = False
    access_log: bool = False
    log_format: str = "text"
    max_connections: int = 1000

    @property
    def threads(self) -> int:
        """How many threads one run of a model may use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.workers)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOOPBACK

    @property
    def scheme(self) -> str:
        """``"http"`` or ``"https"``."""
        return "http" if self.tls_cert is None else "https"

    def token(self) -> bytes | None:
        """Return the token that clients must send, or None.

        Raises:
            ConfigError: If the file cannot be read or is empty.
        """
        if self.token_file is None:
            found = os.environ.get(TOKEN_VARIABLE)
            if found is not None and not found.strip():
                raise ConfigError(f"the variable {TOKEN_VARIABLE} is set but empty.", hint="unset it, or set a token.")
            return None if found is None else found.strip().encode()
        try:
            text = self.token_file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(
                f"token_file={str(self.token_file)!r} cannot be read: {error.strerror}.",
                hint="write the token to a file that only you can read.",
            ) from error
        if not text:
            raise ConfigError(f"token_file={str(self.token_file)!r} is empty.", hint="openssl rand -hex 32 > FILE")
        return text

    def require_tls(self) -> None:
        """Refuse a certificate or key that cannot be used.

        Raises:
            ConfigError: If they cannot be read, do not fit each other, or the key asks for a password.
        """
        if self.tls_cert is None or self.tls_key is None:
            return

        def refuse() -> str:
            raise ConfigError(f"the key {self.tls_key} asks for a password.", hint="openssl rsa -in KEY -out PLAIN_KEY")

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.tls_cert, self.tls_key, password=refuse)
        except OSError as error:
            raise ConfigError(
                f"tls_cert={str(self.tls_cert)!r} and tls_key={str(self.tls_key)!r} cannot be used: {error}.",
                hint="both must be PEM, and the key that of the certificate.",
            ) from error

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def service_config(options: Mapping[str, Any]) -> ServiceConfig:
    """Return checked options.

    Raises:
        ConfigError: For the first that is unknown or invalid.
    """
    names = [one.name for one in fields(ServiceConfig)]
    refuse_unknown(options, names, "serve()", ConfigError, _OTHER_NAMES)
    checked = {name: _CHECKS[name](name, value) for name, value in options.items()}
    made = ServiceConfig(**checked)
    if (made.tls_cert is None) != (made.tls_key is None):
        raise ConfigError("tls_cert= and tls_key= belong together; got one of them.", hint="pass both.")
    if made.workers > 1 and os.name != "posix":
        raise ConfigError("several workers share a port on POSIX systems only.", hint="workers=1")
    made.token()
    made.require_tls()
    return made


_OTHER_NAMES: Final = {
    "max_batch_size": "max_batch=",
    "batch_timeout": "max_wait_ms=",
    "workers_per_device": "workers=",
    "api_path": "the routes are fixed: /predict and /models/NAME/predict.",
    "ssl_certfile": "tls_cert=",
    "ssl_keyfile": "tls_key=",
    "token": "token_file=, or the variable UNITRAIN_TOKEN: an argument can be seen by others.",
    "reload": "watch=True loads a replaced model file.",
}
"""Our equivalents for arguments of LitServe and uvicorn."""


def require_installed() -> None:
    """Refuse to serve without the packages that it takes.

    Raises:
        ConfigError: That names those that are missing.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serving needs {', '.join(missing)}.", hint=install_hint("serve"))


def named_models(given: Any) -> dict[str, Path]:
    """Return the files to serve by name.

    Args:
        given: A path, which is served under its stem, or paths by name.

    Raises:
        ConfigError: If there are none, or a name is invalid.
    """
    if isinstance(given, Mapping):
        named = {str(name): _model_path(path) for name, path in given.items()}
    else:
        path = _model_path(given)
        named = {name_of(path): path}
    if not named:
        raise ConfigError("serve() needs a model; got an empty dict.", hint='unitrain.serve("model.onnx")')
    for name in named:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"the model name {name!r} is invalid: letters, digits, '.', '_' and '-' are accepted.", hint="digits-2"
            )
    for path in named.values():
        if not path.is_file():
            raise ConfigError(f"{path} is not a file.", hint='trainer.export("model.onnx") writes one.')
    return named


def name_of(path: Path) -> str:
    """Return the name under which a file is served."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:_LONGEST_NAME] or "model"


def _model_path(given: Any) -> Path:
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given):
        raise ConfigError(
            f"serve() takes the path of an exported model, or paths by name; got {given!r:.80}.",
            hint='unitrain.serve("model.onnx"), or unitrain.serve({"a": "a.onnx", "b": "b.pt2"})',
        )
    return user_path(given)  # type: ignore[arg-type]


def _whole(least: int, most: int | None = None) -> Callable[[str, Any], int]:
    bounds = f"a whole number from {least}" + ("" if most is None else f" to {most}")

    def check(name: str, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            raise ConfigError(f"{name}= must be {bounds}; got {value!r:.80}.", hint=f"{name}={max(least, 1)}")
        return value

    return check


def _seconds(least: float, *, open_end: bool = False) -> Callable[[str, Any], float]:
    bound = f"above {least:g}" if open_end else f"at least {least:g}"

    def check(name: str, value: Any) -> float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits or not (value > least if open_end else value >= least) or value == float("inf"):
            raise ConfigError(f"{name}= must be a number {bound}; got {value!r:.80}.", hint=f"{name}=10")
        return float(value)

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}= must be True or False; got {value!r:.80}.", hint=f"{name}=True")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name}= must be a text; got {value!r:.80}.", hint=f'{name}="127.0.0.1"')
    return value


def _hosts(name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    given = tuple(value) if isinstance(value, (list, tuple)) else ()
    if not given or not all(isinstance(one, str) and _HOST.fullmatch(one) for one in given):
        raise ConfigError(
            f"{name}= must be a list of host names, without scheme, port and path; got {value!r:.80}.",
            hint=f'{name}=["models.example.org"], or ["*"] for all.',
        )
    return tuple(one.lower() for one in given)


def _one_of(name: str, value: Any) -> str:
    if value not in LOG_FORMATS:
        raise ConfigError(f"{name}= must be one of {', '.join(LOG_FORMATS)}; got {value!r:.80}.", hint='"json"')
    return str(value)


def _file(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigError(f"{name}= must be the path of a file; got {value!r:.80}.", hint=f'{name}="FILE"')
    path = user_path(value)  # type: ignore[arg-type]
    if not path.is_file():
        raise ConfigError(f"{name}={str(path)!r}: there is no such file.", hint="check the path.")
    return path


def _size(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = 1 if match is None or match[2] is None else (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    size = 0 if match is None else int(float(match[1]) * unit)
    if not size:
        raise ConfigError(f"{name}= must be a size in bytes or as '10MB'; got {value!r:.80}.", hint=f'{name}="10MB"')
    return size


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "host": _text,
    "port": _whole(0, _PORTS),
    "allowed_hosts": _hosts,
    "workers": _whole(1, 1024),
    "max_batch": _whole(1),
    "max_wait_ms": _seconds(0),
    "queue": _whole(1),
    "max_body": _size,
    "timeout": _seconds(0, open_end=True),
    "drain_delay": _seconds(0),
    "drain_timeout": _seconds(0),
    "token_file": _file,
    "tls_cert": _file,
    "tls_key": _file,
    "metrics": _flag,
    "watch": _flag,
    "access_log": _flag,
    "log_format": _one_of,
    "max_connections": _whole(1),
}
