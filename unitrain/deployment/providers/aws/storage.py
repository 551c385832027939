"""The archive of a bundle on S3."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from unitrain.deployment.bundle import archive as tar
from unitrain.deployment.bundle.manifest import ARCHIVE
from unitrain.deployment.providers.aws.calls import AWSError
from unitrain.deployment.providers.aws.resources import MODEL, Resources
from unitrain.deployment.providers.aws.settings import CALL_TAG, OWNER_TAG
from unitrain.deployment.steps import Step, Verb
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.deployment.bundle.bundle import Bundle
    from unitrain.deployment.providers.aws.calls import Calls

_LARGEST: Final = 5 * 2**30
"""Bytes that S3 takes in one request, which alone is atomic."""
_SCHEME: Final = "s3://"
_MEGA: Final = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where an archive is.

    Attributes:
        bucket: The bucket.
        key: The key.
    """

    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The place in one text."""
        return f"{_SCHEME}{self.bucket}/{self.key}"


def place_of(url: str) -> Place:
    """Return the place in a text."""
    bucket, _, key = url.removeprefix(_SCHEME).partition("/")
    return Place(bucket, key)


class Storage:
    """The archives of one deployment.

    Args:
        calls: Asks AWS.
        owner: The name of the deployment.
        account: The number of the account: a bucket of another is refused.
    """

    def __init__(self, calls: Calls, owner: str, account: str) -> None:
        self._calls, self._owner, self._account = calls, owner, account
        self._models = Resources(calls, MODEL)

    def upload(self, bundle: Bundle, place: Place, call: str) -> Step:
        """Return the step that uploads the archive of a bundle, unless it is there.

        Raises:
            DeployError: If something else is there.
        """
        found = self._marks(place)
        if found is None:
            size = "" if bundle.archive is None else f"{bundle.archive.stat().st_size / _MEGA:.1f} MB"
            undo = Step(Verb.DELETE, "archive", place.url, do=lambda: self._take_back(place, call))
            return Step(
                Verb.CREATE, "archive", place.url, size, do=lambda: self._put(bundle, place, call), undo=(undo,)
            )
        if found.get(OWNER_TAG) != self._owner:
            raise DeployError(f"{place.url} exists, and unitrain did not upload it.", hint="choose another prefix=.")
        return Step(Verb.KEEP, "archive", place.url)

    def delete_unused(self, url: str, version: str) -> None:
        """Delete the archive of a version, unless another one uses it or it is not unitrain's."""
        place = place_of(url)
        others = [one for one in self._models.versions(self._owner) if one != version]
        if self._is_used(url, others) or (self._marks(place) or {}).get(OWNER_TAG) != self._owner:
            return
        self._delete(place)

    def _put(self, bundle: Bundle, place: Place, call: str) -> None:
        """Upload the archive; S3 compares its SHA-256, and refuses it if another call was first."""
        with _archive(bundle) as path, path.open("rb") as file:
            size = path.stat().st_size
            if size > _LARGEST:
                raise DeployError(f"the archive has {size} bytes; S3 takes {_LARGEST} at once.", hint=None)
            given = {"Body": file, "ChecksumAlgorithm": "SHA256", "IfNoneMatch": "*", "ContentType": "application/gzip"}
            marks = {OWNER_TAG: self._owner, CALL_TAG: call}
            try:
                self._calls("s3", "put_object", **self._at(place), **given, Metadata=marks)
            except AWSError as error:
                if not error.is_duplicate:
                    raise

    def _take_back(self, place: Place, call: str) -> None:
        if (self._marks(place) or {}).get(CALL_TAG) != call:
            return
        if not self._is_used(place.url, self._models.versions(self._owner)):
            self._delete(place)

    def _is_used(self, url: str, versions: list[str]) -> bool:
        found = (self._models.find(one) for one in versions)
        return any(one is not None and url_of(one) == url for one in found)

    def _marks(self, place: Place) -> dict[str, str] | None:
        """Return what was noted beside an archive; None if there is none."""
        try:
            found: dict[str, str] = self._calls("s3", "head_object", **self._at(place))["Metadata"]
        except AWSError as error:
            if error.is_absent:
                return None
            raise
        return found

    def _delete(self, place: Place) -> None:
        self._calls("s3", "delete_object", **self._at(place))

    def _at(self, place: Place) -> dict[str, str]:
        return {"Bucket": place.bucket, "Key": place.key, "ExpectedBucketOwner": self._account}


def url_of(model: dict[str, object]) -> str:
    """Return where the archive of a model is, or an empty text."""
    container = model.get("PrimaryContainer")
    return str(container.get("ModelDataUrl", "")) if isinstance(container, dict) else ""


@contextlib.contextmanager
def _archive(bundle: Bundle) -> Iterator[Path]:
    """Yield the archive of a bundle, verified; where there is none, it is made for a while.

    Raises:
        DeployError: If it is of another bundle by now.
    """
    if bundle.archive is not None:
        if tar.inspected(bundle.archive) != bundle.manifest:
            raise DeployError(f"{bundle.archive} was changed meanwhile.", hint="write the bundle again.")
        yield bundle.archive
        return
    with tempfile.TemporaryDirectory(prefix="unitrain-archive-") as folder:
        path = Path(folder) / ARCHIVE
        with path.open("xb") as file:
            tar.write(bundle.path, bundle.manifest["files"], file)
        tar.inspected(path)
        yield path
