"""Differences between MLflow releases."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlparse

from packaging.version import Version

from unitrain.compat.differences import difference
from unitrain.errors import ConfigError

_NO_FILES = Version("3.13")
_ALLOWED = "MLFLOW_ALLOW_FILE_STORE"


@difference(
    "mlflow", since="3.13", drop="3.13", link="https://mlflow.org/docs/latest/self-hosting/migrate-from-file-store"
)
def refuse_file_store(uri: str | None, release: str | None = None) -> None:
    """Refuse a file store, which MLflow no longer supports, before a run would lose its rows.

    Args:
        uri: The given ``tracking_uri``.
        release: The MLflow release; by default the installed one.

    Raises:
        ConfigError: If it is a file store; the message suggests another one.
    """
    if uri is None or os.environ.get(_ALLOWED, "").lower() in ("true", "1"):
        return
    place = urlparse(str(uri))
    if place.scheme not in ("", "file") or str(uri).startswith("databricks"):
        return
    try:
        installed = Version(release or version("mlflow"))
    except PackageNotFoundError:  # mlflow-skinny
        installed = Version(version("mlflow-skinny"))
    if installed >= _NO_FILES:
        raise ConfigError(
            f"MLflow {installed} does not support file stores; got tracking_uri={str(uri)!r}.",
            hint=f"tracking_uri='sqlite:///{Path(place.path).parent / 'mlflow.db'}'; `mlflow migrate-filestore`"
            f" migrates existing data; {_ALLOWED}=true opens the file store.",
        )
