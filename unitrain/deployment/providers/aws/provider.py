"""``provider="aws"``: the protocol of a provider."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.deployment.providers.aws.calls import AWSError, Calls
from unitrain.deployment.providers.aws.endpoint import ANSWERING, Endpoint
from unitrain.deployment.providers.aws.plan import plan
from unitrain.deployment.providers.aws.removal import removal
from unitrain.deployment.providers.aws.settings import Settings
from unitrain.deployment.providers.provider import Status
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.deployment.providers.provider import Request
    from unitrain.deployment.steps import Step

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?")
_LONGEST: Final = 43
"""SageMaker takes 63, and the names of models are ``unitrain-``, this, and ``-0123456789``."""


class AWS:
    """Runs bundles on SageMaker.

    Args:
        settings: Its settings.
    """

    name: ClassVar[str] = "aws"
    settings_type: ClassVar[type] = Settings
    targets: ClassVar[tuple[str, ...]] = ("sagemaker",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._calls = Calls(settings.region, settings.profile)

    def check_name(self, name: str) -> None:
        """Refuse a name that SageMaker would refuse.

        Raises:
            DeployError: If it is invalid.
        """
        if len(name) > _LONGEST or not _NAME.fullmatch(name):
            raise DeployError(
                f"name={name!r:.80} is invalid: 1 to {_LONGEST} letters, digits and '-' within are accepted.",
                hint='name="digits-2"',
            )

    def plan(self, request: Request) -> Sequence[Step]:
        """Return the steps: archive, model, endpoint config, endpoint, and the removal of former versions."""
        return plan(self._calls, self.settings, request)

    def removal(self, name: str) -> Sequence[Step]:
        """Return the steps: the endpoint first, then configs, models and archives."""
        return removal(self._calls, name)

    def status(self, name: str) -> Status:
        """Return the state of the endpoint, in SageMaker's words."""
        seen = Endpoint(self._calls, name).look()
        if seen is None:
            return Status(name, "absent", is_ready=False)
        details = {"url": self.url(name), "config": seen.config, "arn": seen.described["EndpointArn"]}
        if seen.pending:
            details["next config"] = seen.pending
        return Status(name, seen.state, seen.state in ANSWERING, seen.reason, details)

    def url(self, name: str) -> str:
        """Return the address of InvokeEndpoint; requests must be signed."""
        return f"{self._calls.client('sagemaker-runtime').meta.endpoint_url}/endpoints/{name}/invocations"

    def ask(self, name: str, content: Mapping[str, Any]) -> Any:
        """Send ``content`` by InvokeEndpoint.

        Raises:
            DeployError: If it is larger than SageMaker takes, or not answered.
        """
        body, most = json.dumps(content).encode(), CONTRACTS["sagemaker"].max_body
        if len(body) > most:
            raise DeployError(f"the request has {len(body)} bytes; SageMaker takes {most}.", hint="send fewer rows.")
        given = {"EndpointName": name, "ContentType": "application/json", "Accept": "application/json", "Body": body}
        try:
            return json.load(self._calls("sagemaker-runtime", "invoke_endpoint", **given)["Body"])
        except AWSError as error:
            if error.code == "ModelError":
                hint = f"the container's log is in CloudWatch, /aws/sagemaker/Endpoints/{name}."
                raise DeployError(f"the model did not answer: {error.told}", hint=hint) from None
            raise
        except ValueError as error:
            raise DeployError(f"the endpoint {name} did not answer JSON: {error}.", hint=None) from error
