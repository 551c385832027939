"""Differences between Optuna releases: storages and suggestions."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from unitrain.compat.differences import difference
from unitrain.compat.optuna_file import FileJournal
from unitrain.compat.optuna_redis import RedisJournal, redacted
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint

if TYPE_CHECKING:
    from collections.abc import Callable

_ACCEPTED = "redis://HOST:PORT/DB, journal:///PATH or a PATH.log, sqlite:///PATH, postgresql://USER@HOST/DB"
_PREFIX = "unitrain"
_2_TO_3 = "https://github.com/optuna/optuna/releases/tag/v3.1.0"
_3_TO_4 = "https://github.com/optuna/optuna/releases/tag/v4.0.0"
_SUGGEST = "https://github.com/optuna/optuna/releases/tag/v3.0.0"


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise BackendNotInstalledError("studies require optuna.", hint=install_hint("tune")) from error
    return optuna


@difference("optuna", since="3.1", drop="4.0", link=_2_TO_3)
def make_storage(url: str, *, password: str | None = None, prefix: str = _PREFIX) -> Any:
    """Return the Optuna storage at ``url``; what was a ``RedisStorage`` before Optuna 3.1 is now a journal.

    Args:
        url: ``redis://...`` (many machines), ``journal:///path`` or a path that ends by ``.log`` (one machine),
            ``postgresql://...`` (many machines) or ``sqlite:///...`` (one process: it runs more trials than asked for
            when several take from it).
        password: Password of the server, if it is not in the address; never shown in errors or reprs.
        prefix: Prefix of the Redis keys, which separates projects on one server.

    Raises:
        BackendNotInstalledError: If optuna, or the client of a server, is not installed.
        ConfigError: If the address is none of these, or does not accept a password.

    Example:
        >>> type(make_storage("sqlite://")).__name__
        'RDBStorage'
    """
    text = _with_password(str(url), password)
    scheme = text.partition("://")[0].partition("+")[0] if "://" in text else ""
    make = _STORAGES.get("journal" if not scheme and text.endswith(".log") else scheme)
    if make is None:
        raise ConfigError(
            f"make_storage({redacted(text)!r}): unknown storage; accepted: {_ACCEPTED}.", hint='"journal:///study.log"'
        )
    if not prefix:
        raise ConfigError(
            "make_storage(prefix='') would share its keys with every other study on the server.", hint='prefix="mine"'
        )
    try:
        return make(text, prefix)
    except ImportError as error:
        raise BackendNotInstalledError(
            f"make_storage({redacted(text)!r}): {error}", hint=install_hint("tune")
        ) from error


def _with_password(url: str, password: str | None) -> str:
    """Return the address of a server with its password, quoted."""
    if not password:
        return url
    parts = urlsplit(url)
    if not isinstance(password, str):
        raise ConfigError(f"password= must be a string; got a {type(password).__name__}.", hint="password.decode()")
    if parts.scheme.partition("+")[0] not in _SERVERS:
        raise ConfigError(
            f"the storage {redacted(url)!r} does not take a password; only servers do.", hint='"redis://HOST:6379/0"'
        )
    if parts.password is not None:
        raise ConfigError(f"{redacted(url)!r} already contains a password, and password= is given.", hint="remove one.")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.removesuffix(':')}:{quote(password, safe='')}@{host}"))


@difference("optuna", since="3.1", drop="4.0", link=_2_TO_3)
def RedisStorage(url: str, *, password: str | None = None, **of_old: Any) -> Any:  # noqa: N802 - as it was called
    """Return a journal storage in Redis, the replacement of ``optuna.storages.RedisStorage``.

    Studies written by the old class have another format and cannot be read.

    Args:
        url: ``redis://...``, ``rediss://...`` or ``unix://...``.
        password: Password of the server, if it is not in the address.
        **of_old: Old arguments, which raise: ``heartbeat_interval``, ``grace_period`` and ``failed_trial_callback``.

    Raises:
        ConfigError: If it is not the address of a Redis server, or another argument is given.
    """
    if of_old:
        raise ConfigError(
            f"RedisStorage(): a journal does not take {', '.join(of_old)}.",
            hint="remove them; unitrain.tune notices dead workers by itself.",
        )
    if urlsplit(str(url)).scheme not in _REDIS:
        raise ConfigError(
            f"RedisStorage({redacted(str(url))!r}) is not the address of a Redis server.", hint='"redis://HOST:6379/0"'
        )
    return make_storage(url, password=password)


@difference("optuna", since="4.0", drop="4.0", link=_3_TO_4)
def _symlink_lock() -> Any:
    """Return Optuna's lock of a journal in a file, which had another place before Optuna 4."""
    storages = _optuna().storages
    return getattr(storages, "journal", storages).JournalFileSymlinkLock


def _journal(backend: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* is experimental", category=Warning)  # before Optuna 4
        return _optuna().storages.JournalStorage(backend)


def _redis(url: str, prefix: str) -> Any:
    return _journal(RedisJournal(url, prefix))


def _file(url: str, _: str) -> Any:
    return _journal(FileJournal(url.removeprefix("journal://"), _symlink_lock()))


def _sqlite(url: str, _: str) -> Any:
    return _optuna().storages.RDBStorage(url)


def _postgresql(url: str, _: str) -> Any:
    """Return a storage that speaks by psycopg 3, which the extra brings; SQLAlchemy's default is psycopg2."""
    scheme, _, rest = url.partition("://")
    return _optuna().storages.RDBStorage(f"{scheme if '+' in scheme else 'postgresql+psycopg'}://{rest}")


_REDIS = ("redis", "rediss", "unix")
_SERVERS = (*_REDIS, "postgresql", "postgres")
_STORAGES: dict[str, Callable[[str, str], Any]] = {
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "journal": _file,
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "postgres": _postgresql,
}


def suggest(trial: Any, name: str, low: float, high: float, *, log: bool = False, step: float | None = None) -> Any:
    """Return a number between ``low`` and ``high``: an int if both are, else a float.

    Args:
        trial: The Optuna trial.
        name: Name of the parameter.
        low: The minimum, inclusive.
        high: The maximum, inclusive.
        log: Whether to sample on a logarithmic scale.
        step: Distance between two numbers.

    Raises:
        ConfigError: If ``log`` and ``step`` are both given, or a bound is not a number.
    """
    if log and step is not None:
        raise ConfigError(
            f"suggest({name!r}): log=True does not allow a step; got step={step!r}.", hint="use one of them."
        )
    given = [low, high, *([] if step is None else [step])]
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) for one in given):
        raise ConfigError(f"suggest({name!r}) takes numbers; got {given!r}.", hint="suggest(trial, 'lr', 1e-5, 1e-1)")
    if all(isinstance(one, int) for one in given):
        return trial.suggest_int(name, low, high, log=log, **({} if step is None else {"step": step}))
    return trial.suggest_float(name, float(low), float(high), log=log, step=step)


@difference("optuna", since="3.0", drop="6.0", link=_SUGGEST)
def suggest_uniform(trial: Any, name: str, low: float, high: float) -> float:
    """Do what ``trial.suggest_uniform`` did, which Optuna 6 removes."""
    return float(suggest(trial, name, float(low), float(high)))


@difference("optuna", since="3.0", drop="6.0", link=_SUGGEST)
def suggest_loguniform(trial: Any, name: str, low: float, high: float) -> float:
    """Do what ``trial.suggest_loguniform`` did, which Optuna 6 removes."""
    return float(suggest(trial, name, float(low), float(high), log=True))


@difference("optuna", since="3.0", drop="6.0", link=_SUGGEST)
def suggest_discrete_uniform(trial: Any, name: str, low: float, high: float, q: float) -> float:
    """Do what ``trial.suggest_discrete_uniform`` did, which Optuna 6 removes; ``q`` is the step."""
    return float(suggest(trial, name, float(low), float(high), step=q))
