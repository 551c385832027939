"""Refuses before anything is done what is certain to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from unitrain.deployment.providers.aws.calls import AWSError
from unitrain.deployment.providers.aws.settings import IMAGE
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls

_ABSENT: Final = ("ImageNotFoundException", "RepositoryNotFoundException")


def account(calls: Calls) -> str:
    """Return the number of the account, which needs credentials and no permission."""
    return str(calls("sts", "get_caller_identity")["Account"])


def require_bucket(calls: Calls, bucket: str, owner: str) -> None:
    """Refuse a bucket that does not exist, is another account's, or in another region.

    Raises:
        DeployError: If it is.
    """
    try:
        found = calls("s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=owner)
    except AWSError as error:
        if error.code in ("404", "NoSuchBucket"):
            hint = f"`aws s3 mb s3://{bucket} --region {calls.region}`, or name another by bucket=."
            raise DeployError(f"there is no bucket {bucket}.", hint=hint) from None
        if error.is_denied:
            hint = "the caller needs s3:ListBucket for it; or name another by bucket=."
            raise DeployError(f"the bucket {bucket} is another account's, or may not be read.", hint=hint) from None
        raise
    region = found.get("BucketRegion") or calls.region
    if region != calls.region:
        raise DeployError(
            f"the bucket {bucket} is in {region}, and SageMaker in {calls.region} reads only buckets there.",
            hint=f"region={region!r}, or name another by bucket=.",
        )


def require_image(calls: Calls, image: str) -> None:
    """Refuse an image that does not exist or is in another region; one that may not be read is left to SageMaker.

    Raises:
        DeployError: If it is.
    """
    found = IMAGE.fullmatch(image)
    assert found is not None  # noqa: S101 - `Settings` has seen to it
    if found["region"] != calls.region:
        raise DeployError(
            f"image= is in {found['region']}, and SageMaker in {calls.region} reads only images there.",
            hint=f"region={found['region']!r}, or push the image to {calls.region}.",
        )
    given = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    try:
        calls(
            "ecr",
            "describe_images",
            registryId=found["account"],
            repositoryName=found["repository"],
            imageIds=[given],
        )
    except AWSError as error:
        if error.code in _ABSENT:
            hint = "docker build and push the bundle first; its Dockerfile says how."
            raise DeployError(f"the image {image} does not exist.", hint=hint) from None
        if not error.is_denied:
            raise
