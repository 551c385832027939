"""Asks AWS, and makes its errors ours."""

from __future__ import annotations

import contextlib
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError, install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

_CREDENTIALS: Final = "`aws sts get-caller-identity` must succeed: set AWS_PROFILE, profile=, or `aws configure`."
_HINTS: Final = {
    "ExpiredToken": "sign in again: `aws sso login`.",
    "ExpiredTokenException": "sign in again: `aws sso login`.",
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ResourceLimitExceeded": "choose another instance= or region=, or ask for more under Service Quotas.",
    "ThrottlingException": "AWS was busy through all retries; try again.",
}
_RETRIES: Final = 6
_CONNECT: Final = 10
_READ: Final = 70
"""Seconds; SageMaker gives a model 60 to answer."""


class AWSError(DeployError):
    """AWS has refused a call.

    Args:
        message: As in ``UnitrainError``.
        code: AWS' own word for it.
        told: AWS' own message.
        hint: As in ``UnitrainError``.
    """

    def __init__(self, message: str, *, code: str, told: str, hint: str | None) -> None:
        super().__init__(message, hint=hint)
        self.code, self.told = code, told

    @property
    def is_absent(self) -> bool:
        """Whether the resource does not exist; SageMaker has no code of its own for that."""
        return self.code in ("404", "NoSuchKey") or (
            self.code == "ValidationException" and self.told.startswith("Could not find")
        )

    @property
    def is_duplicate(self) -> bool:
        """Whether the resource exists already."""
        is_refused = self.code in ("ValidationException", "ResourceInUse")
        return self.code == "PreconditionFailed" or (is_refused and "already exist" in self.told)

    @property
    def is_denied(self) -> bool:
        """Whether the permission is missing."""
        return self.code in ("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation")


class Calls:
    """The calls to AWS of one deployment; nothing is imported or asked until the first.

    Args:
        region: The region; None takes that of the profile.
        profile: A profile of the AWS configuration, or None.
    """

    def __init__(self, region: str | None, profile: str | None) -> None:
        self._region, self._profile = region, profile
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        """Make a call, with retries where AWS is busy.

        Raises:
            AWSError: If AWS refuses it.
            DeployError: If AWS cannot be asked.
        """
        with self._failing(operation):
            found: dict[str, Any] = getattr(self.client(service), operation)(**given)
            return found

    def pages(self, service: str, operation: str, key: str, **given: Any) -> list[Any]:
        """Return what all pages of a list hold.

        Raises:
            AWSError: As above.
        """
        with self._failing(operation):
            pages = self.client(service).get_paginator(operation).paginate(**given)
            return [one for page in pages for one in page[key]]

    @property
    def region(self) -> str:
        """The region.

        Raises:
            DeployError: If none is set.
        """
        found = self._session.region_name
        if found is None:
            raise DeployError("no region is set.", hint='region="eu-west-1", or AWS_DEFAULT_REGION.')
        return str(found)

    def client(self, service: str) -> Any:
        """Return the client of a service; boto3 itself reads ``AWS_ENDPOINT_URL``."""
        if service not in self._clients:
            from botocore.config import Config  # noqa: PLC0415 - `_session` has said it if boto3 is missing

            retries = {"mode": "standard", "total_max_attempts": _RETRIES}
            config = Config(retries=retries, connect_timeout=_CONNECT, read_timeout=_READ)
            self._clients[service] = self._session.client(service, region_name=self.region, config=config)
        return self._clients[service]

    @cached_property
    def _session(self) -> Any:
        try:
            import boto3  # noqa: PLC0415 - 0.3 s, and optional
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ImportError as error:
            raise DeployError(
                'provider="aws" needs boto3, which is not installed.', hint=install_hint("aws")
            ) from error
        try:
            session = boto3.Session(profile_name=self._profile, region_name=self._region)
            credentials = session.get_credentials()
        except BotoCoreError as error:
            raise DeployError(f"AWS cannot be asked: {error}.", hint=_CREDENTIALS) from None
        if credentials is None:
            raise DeployError("there are no credentials for AWS.", hint=_CREDENTIALS)
        return session

    @contextlib.contextmanager
    def _failing(self, operation: str) -> Iterator[None]:
        """Raise AWS' errors as ours; the cause is cut off, since AWS repeats signed headers in some messages."""
        _ = self._session
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            yield
        except ClientError as error:
            raise self._refused(error.operation_name, error.response["Error"]) from None
        except (BotoCoreError, OSError) as error:
            is_asked = re.search("Credential|Token|SSO|Profile", type(error).__name__) is None
            hint = "check region= and the network." if is_asked else _CREDENTIALS
            raise DeployError(
                f"AWS did not answer {operation}: {self._without_secrets(str(error))}", hint=hint
            ) from None

    def _refused(self, operation: str, error: dict[str, Any]) -> AWSError:
        code = str(error.get("Code", ""))
        told = self._without_secrets(str(error.get("Message", "")))
        made = AWSError(f"AWS refused {operation}: {code}: {told}", code=code, told=told, hint=_HINTS.get(code))
        if made.is_denied:
            hint = f"the caller needs a policy that allows {operation}."
            return AWSError(f"no permission for {operation}: {told}", code=code, told=told, hint=hint)
        return made

    def _without_secrets(self, text: str) -> str:
        """Cut what AWS repeats of a request; its messages hold signed headers, and so a session's token."""
        text = text.partition("\n")[0]
        with contextlib.suppress(Exception):  # credentials that cannot be read hold no secret
            found = self._session.get_credentials().get_frozen_credentials()
            for secret in filter(None, (found.secret_key, found.token)):
                text = text.replace(secret, "***")
        return text
