"""A bundle that was read and verified."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.deployment.bundle import archive as tar
from unitrain.deployment.bundle.manifest import ARCHIVE, digest_of
from unitrain.deployment.bundle.verify import verified
from unitrain.errors import DeployError
from unitrain.serving.signature import Signature, signature_of
from unitrain.utilities.files import user_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.bundle.check import CheckReport

_SHOWN = 12
_MODELS = (".onnx", ".pt2", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True, repr=False)
class Bundle:
    """A folder with a model and all that serves it; its files were those of its manifest when it was read.

    Attributes:
        path: The folder.
        target: The platform that it is for: ``"docker"``, ``"kserve"``, ``"sagemaker"`` or ``"vertex"``.
        manifest: What ``manifest.json`` holds.
        archive: The ``.tar.gz`` of it, if there is one.
    """

    path: Path
    target: str
    manifest: Mapping[str, Any]
    archive: Path | None = None

    @property
    def name(self) -> str:
        """The name of the model, which every platform accepts."""
        return str(self.manifest["name"])

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest, and so of the whole content."""
        return digest_of(self.manifest)

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the model."""
        return signature_of(self.manifest["signature"])

    @property
    def model_file(self) -> Path:
        """The file of the model."""
        return self.path / str(self.manifest["model"]["file"])

    def check(self) -> CheckReport:
        """Start the bundle's own entry point as each platform does, ask for predictions, and stop it.

        Needs no Docker: the packages are those of this Python. This runs code of the bundle, so check those you trust.

        Raises:
            DeployError: If the files were changed since.
        """
        from unitrain.deployment.bundle.check import check  # noqa: PLC0415 - needs the packages that serve

        verified(self.path)
        return check(self)

    def __repr__(self) -> str:
        return (
            f"Bundle({str(self.path)!r}, target={self.target!r}, name={self.name!r}, digest={self.digest[:_SHOWN]!r})"
        )


def read_bundle(path: str | Path, *, into: str | Path | None = None) -> Bundle:
    """Return the bundle in a folder or in an archive, verified.

    Args:
        path: A folder that ``unitrain.bundle`` wrote, or the ``.tar.gz`` of one.
        into: An empty or new folder to unpack an archive to; by default a temporary one, which ends with this process.

    Raises:
        DeployError: If it is not a bundle, or a file was changed; of a hostile archive nothing is written.
    """
    place = user_file(path, "bundle", DeployError)
    if place.is_dir():
        if into is not None:
            raise DeployError("into= is for an archive; a folder is used where it is.", hint="remove it.")
        return of_folder(place)
    if not place.is_file():
        raise DeployError(f"there is no bundle {place}.", hint='unitrain.bundle("model.onnx", "out/") writes one.')
    if place.suffix in _MODELS:
        raise DeployError(f"{place} is a model, not a bundle.", hint=f"unitrain bundle {place} out")
    tar.inspected(place)
    folder = _temporary() if into is None else _empty(user_file(into, "into", DeployError))
    manifest = tar.unpacked(place, folder)
    return Bundle(folder.absolute(), manifest["target"], manifest, place.absolute())


def of_folder(folder: Path) -> Bundle:
    """Return the bundle in a folder, verified, with its archive.

    Raises:
        DeployError: If it is not a bundle, or a file was changed, or its archive is of another bundle.
    """
    folder = folder.absolute()  # it stays the same where the working directory changes
    manifest = verified(folder)
    archive = folder / ARCHIVE
    if not archive.exists():
        return Bundle(folder, manifest["target"], manifest)
    if tar.inspected(archive) != manifest:
        raise DeployError(f"{archive} is of another bundle than its folder.", hint="write the bundle again.")
    return Bundle(folder, manifest["target"], manifest, archive)


def _temporary() -> Path:
    made = Path(tempfile.mkdtemp(prefix="unitrain-bundle-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _empty(folder: Path) -> Path:
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise DeployError(f"into={str(folder)!r} is not an empty folder.", hint="choose one that does not exist yet.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
