"""The program ``serve`` of a bundle: verifies the files, and serves the model as the platform expects.

Until the files are verified it needs only Python. Its options: ``serve [serve] [--host ADDRESS] [--port N]``; the
port is also taken from SAGEMAKER_BIND_TO_PORT, AIP_HTTP_PORT or PORT, and is 8080 otherwise. The model is that of
UNITRAIN_MODEL_DIR, of /opt/ml/model (SageMaker) or /mnt/models (KServe), or else the one beside this file.
UNITRAIN_WORKERS is how many processes serve.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, Final

FAILED: Final = 1
_TERMINATED: Final = 128 + signal.SIGTERM
_FORMAT: Final = 1
_BLOCK: Final = 2**20
_MANIFEST: Final = "manifest.json"
_MODEL_DIR: Final = "UNITRAIN_MODEL_DIR"
_MOUNTED: Final = ("/opt/ml/model", "/mnt/models")
_PORTS: Final = ("SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT", "PORT")
_PORT: Final = 8080
_HIGHEST_PORT: Final = 65535
_WORKERS: Final = "UNITRAIN_WORKERS"
_MOST_WORKERS: Final = 1000


class Refused(Exception):  # noqa: N818 - not of unitrain, which is not loaded yet
    """The bundle cannot be served."""


def verified(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder whose files are those that it lists.

    Raises:
        Refused: If one differs or is missing.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_bytes())
        if manifest["format"] != _FORMAT:
            raise Refused(f"{folder} has the format {manifest['format']!r:.20}; this program reads {_FORMAT}.")
        if manifest["model"]["file"] not in manifest["files"]:
            raise Refused(f"the model is not among the files of {_MANIFEST}.")
        for name, listed in manifest["files"].items():
            if name.startswith("/") or ".." in name.split("/"):
                raise Refused(f"{_MANIFEST} lists {name!r:.80}, which is not in the bundle.")
            if _sha256(folder / name) != listed["sha256"]:
                raise Refused(f"{name} was changed: its sha256 is not that of {_MANIFEST}.")
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused(f"{folder / _MANIFEST} was not written by unitrain.bundle(): {error!r:.200}") from error
    return manifest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def model_folder(beside: Path) -> Path:
    """Return the folder of the bundle whose model is served.

    Raises:
        Refused: If the platform has put something else there, or keeps the model where it cannot be read.
    """
    if os.environ.get(_MODEL_DIR):
        return Path(os.environ[_MODEL_DIR])
    if os.environ.get("AIP_STORAGE_URI"):
        raise Refused("AIP_STORAGE_URI is set, but the model is in the image: deploy it without an artifact URI.")
    for place in map(Path, _MOUNTED):
        if (place / _MANIFEST).is_file():
            return place
        if place.is_dir() and any(place.iterdir()):
            raise Refused(
                f"{place} holds files but no {_MANIFEST}: unitrain.bundle(archive=True) packs a model for it."
            )
    return beside


def settings_of(manifest: dict[str, Any], *, is_sagemaker: bool) -> dict[str, Any]:
    """Return the limits of the platform that has started this program.

    SageMaker and Vertex AI are known by what they pass; elsewhere they are Docker's, or KServe's if it is the target.

    Raises:
        Refused: If the manifest has none.
    """
    told = {
        "vertex": bool(os.environ.get("AIP_HTTP_PORT")),
        "sagemaker": is_sagemaker or bool(os.environ.get("SAGEMAKER_BIND_TO_PORT")),
        "kserve": manifest.get("target") == "kserve",
    }
    name = next((name for name, is_so in told.items() if is_so), "docker")
    try:
        found: dict[str, Any] = manifest["contracts"][name]
    except (LookupError, TypeError) as error:
        raise Refused(f"{_MANIFEST} has no limits for {name}.") from error
    return found


def _port(given: str | None) -> int:
    told = {"--port": given} | {name: os.environ.get(name) for name in _PORTS}
    name, text = next(((name, text) for name, text in told.items() if text), ("", str(_PORT)))
    return _number(name, text, 0, _HIGHEST_PORT)


def _number(name: str, text: str, least: int, most: int) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise Refused(f"{name} must be a whole number from {least} to {most}; got {text!r:.40}.")
    return int(text)


def _options(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="serve", description="Serve the model of this bundle over HTTP.")
    parser.add_argument("command", nargs="?", choices=["serve"], help="as SageMaker calls it")
    parser.add_argument("--host", metavar="ADDRESS", default="0.0.0.0", help="default: all addresses")  # noqa: S104
    parser.add_argument("--port", metavar="N", help=f"default: {', '.join(_PORTS)}, or {_PORT}")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Serve until SIGTERM, and return the exit status."""
    # The first process of a container has no default. SystemExit is lost within a finalizer, and imports call many.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(_TERMINATED))
    options, beside = _options(given), Path(__file__).resolve().parent
    try:
        port, folder = _port(options.port), model_folder(beside)
        workers = _number(_WORKERS, os.environ.get(_WORKERS) or "1", 1, _MOST_WORKERS)
        manifest = verified(beside)
        manifest = manifest if folder == beside else verified(folder)
        settings = settings_of(manifest, is_sagemaker=options.command is not None)
        model = folder / manifest["model"]["file"]
    except Refused as error:
        print(f"serve: {error}", file=sys.stderr)  # noqa: T201 - for the log
        return FAILED
    process = {"host": options.host, "port": port, "workers": workers}
    return _serve(beside, {manifest["name"]: model}, settings, process)


def _serve(beside: Path, models: dict[str, Path], settings: dict[str, Any], process: dict[str, Any]) -> int:
    """Serve by the part of unitrain beside this file, also in the processes that it starts."""
    sys.dont_write_bytecode = True  # the folder is to stay as it is
    os.environ.update(PYTHONPATH=str(beside), PYTHONSAFEPATH="1", PYTHONDONTWRITEBYTECODE="1")
    sys.path.insert(0, str(beside))
    from unitrain.errors import UnitrainError  # noqa: PLC0415 - after it was verified
    from unitrain.serving.loading import leave  # noqa: PLC0415
    from unitrain.serving.serve import serve  # noqa: PLC0415

    if settings["is_managed"]:  # the platform itself asks who a client is
        warnings.filterwarnings("ignore", message=".*there is no token.*")
    limits = {key: settings[key] for key in ("max_body", "timeout", "log_format")}
    try:
        serve(models, **process, **limits)
    except UnitrainError as error:
        print(f"serve: {error}", file=sys.stderr)  # noqa: T201 - for the log
        return FAILED
    return leave(0)


if __name__ == "__main__":
    sys.exit(main())
