"""The address of a study's storage."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.compat.optuna import make_storage
from unitrain.compat.optuna_redis import RedisJournal, redacted
from unitrain.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "unitrain"
_FILES = {"journal": "journal://", "sqlite": "sqlite:///"}


@dataclass(frozen=True)
class Address:
    """The address of a study's storage; ``str()`` hides the password.

    Attributes:
        url: The given address, made absolute; None means this process's memory.
    """

    url: str | None = field(repr=False)

    def __str__(self) -> str:
        """Return the address without a password."""
        return "memory" if self.url is None else redacted(self.url)

    def __reduce__(self) -> tuple[Callable[..., Address], tuple[str | None, str | None]]:
        """Travel without the password, which started processes find in their environment."""
        if self.url is None or redacted(self.url) == self.url:
            return _arrived, (self.url, None)
        variable = f"UNITRAIN_STORAGE_{zlib.crc32(self.url.encode()):08X}"
        os.environ[variable] = self.url
        return _arrived, (redacted(self.url), variable)

    def secrets(self) -> dict[str, str]:
        """Return the variables in which a process elsewhere is to find the password."""
        _, (_, variable) = self.__reduce__()
        return {} if variable is None else {variable: os.environ[variable]}

    @classmethod
    def of(cls, given: Any) -> Address:
        """Return the address that a user means; the path of a file as it is now, whatever ``os.chdir`` comes later.

        ``journal:///study.log`` is a file in the working folder: nobody means one in the root of the disk.

        Raises:
            ConfigError: If it is not a string.
        """
        if given is None:
            return cls(None)
        if not isinstance(given, (str, Path)):
            raise ConfigError(
                f"storage= must be a URL or path; got {given!r}.",
                hint='storage="journal:///study.log", or study= for an Optuna study.',
            )
        text = str(given)
        if "://" not in text and text.endswith(".log"):
            text = f"journal://{text}"
        for kind, scheme in _FILES.items():
            path = text.removeprefix(scheme)
            if text.startswith(scheme) and path not in ("", ":memory:"):
                here = path.lstrip("/") if kind == "journal" and Path(path).parent == Path("/") else path
                text = f"{scheme}{Path(here).expanduser().absolute()}"
        return cls(None if text in _IN_MEMORY else text)

    @property
    def kind(self) -> str:
        """The scheme: ``"memory"``, ``"redis"``, ``"journal"``, ``"sqlite"`` or ``"postgresql"``."""
        scheme = "memory" if self.url is None else self.url.partition("://")[0].partition("+")[0]
        return _ALIASES.get(scheme, scheme)

    @property
    def path(self) -> Path:
        """The file of a journal or of SQLite."""
        assert self.url is not None  # noqa: S101 - for the type checker
        return Path(self.url.removeprefix(_FILES[self.kind]))

    def opened(self) -> Any:
        """Return Optuna's storage.

        Raises:
            ConfigError: If the address is unknown, or the server does not answer; without the password.
        """
        import optuna  # noqa: PLC0415 - an extra

        if self.url is None:
            return optuna.storages.InMemoryStorage()
        if self.kind in _FILES:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.get_storage(self._made(self.url))

    def _made(self, url: str) -> Any:
        if self.kind != "postgresql":
            return make_storage(url, prefix=PREFIX)
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - of Optuna

        try:
            return make_storage(_patient(url), prefix=PREFIX)
        except SQLAlchemyError as error:
            reason = str(error).partition("\n")[0].replace(url, str(self))
        raise ConfigError(
            f"the database at {self} does not answer: {reason}", hint="postgresql://USER:PASSWORD@HOST/DATABASE"
        )


def hurry(storage: Any) -> None:
    """Let a study whose server is away be an error within seconds, as nobody works on it from now on."""
    backend = getattr(storage, "_backend", None)
    if isinstance(backend, RedisJournal):
        backend.hurry()


def _arrived(url: str | None, variable: str | None) -> Address:
    """Return an address, as a whole from ``variable`` if it has a password."""
    return Address(url if variable is None else os.environ[variable])


_ALIASES = {"rediss": "redis", "unix": "redis", "postgres": "postgresql"}
_IN_MEMORY = ("sqlite://", "sqlite:///:memory:")


def _patient(url: str) -> str:
    """Return an address whose server is waited for five seconds at most."""
    return url if "connect_timeout=" in url else f"{url}{'&' if '?' in url else '?'}connect_timeout=5"
