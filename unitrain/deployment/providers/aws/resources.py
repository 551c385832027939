"""What models, endpoint configs and endpoints have in common: a name, an ARN and tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.providers.aws.calls import AWSError
from unitrain.deployment.providers.aws.settings import CALL_TAG, OWNER_TAG
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from unitrain.deployment.providers.aws.calls import Calls


@dataclass(frozen=True)
class Kind:
    """How SageMaker calls a kind of resource.

    Attributes:
        title: For messages.
        operation: Within the names of operations.
        key: Before ``Name`` and ``Arn``, and in the plural for lists.
    """

    title: str
    operation: str
    key: str


MODEL: Final = Kind("model", "model", "Model")
CONFIG: Final = Kind("endpoint config", "endpoint_config", "EndpointConfig")
ENDPOINT: Final = Kind("endpoint", "endpoint", "Endpoint")


class Resources:
    """All resources of a kind.

    Attributes:
        kind: The kind.

    Args:
        calls: Asks AWS.
        kind: As the attribute.
    """

    def __init__(self, calls: Calls, kind: Kind) -> None:
        self.kind, self._calls = kind, calls

    def find(self, name: str) -> dict[str, Any] | None:
        """Return the description of a resource, or None if there is none."""
        try:
            return self._calls("sagemaker", f"describe_{self.kind.operation}", **self._named(name))
        except AWSError as error:
            if error.is_absent:
                return None
            raise

    def tags(self, found: dict[str, Any]) -> dict[str, str]:
        """Return the tags of a resource by name; none if it is gone by now."""
        try:
            pages = self._calls.pages("sagemaker", "list_tags", "Tags", ResourceArn=found[f"{self.kind.key}Arn"])
        except AWSError as error:
            if error.is_absent:
                return {}
            raise
        return {one["Key"]: one["Value"] for one in pages}

    def owned(self, name: str, owner: str) -> dict[str, Any] | None:
        """Return the description of a deployment's resource, or None if there is none.

        Raises:
            DeployError: If it is another's.
        """
        found = self.find(name)
        if found is not None and self.tags(found).get(OWNER_TAG) != owner:
            raise DeployError(
                f"the {self.kind.title} {name} is not unitrain's: it has no tag {OWNER_TAG}={owner}.",
                hint="choose another name=; it is left as it is.",
            )
        return found

    def is_of_call(self, name: str, call: str) -> bool:
        """Whether a call created the resource."""
        found = self.find(name)
        return found is not None and self.tags(found).get(CALL_TAG) == call

    def versions(self, owner: str) -> list[str]:
        """Return the names of all versions of a deployment."""
        begin, key = f"unitrain-{owner}-", self.kind.key
        pages = self._calls.pages(
            "sagemaker", f"list_{self.kind.operation}s", f"{key}s", NameContains=begin, SortBy="Name"
        )
        names = [one for one in pages if re.fullmatch(re.escape(begin) + r"[0-9a-f]{10}", one[f"{key}Name"])]
        return [one[f"{key}Name"] for one in names if self.tags(one).get(OWNER_TAG) == owner]

    def create(self, name: str, owner: str, **given: Any) -> None:
        """Create a resource; the same may have been created by another call in the meantime, or by a lost attempt.

        Raises:
            DeployError: If something else has the name.
        """
        try:
            self._calls("sagemaker", f"create_{self.kind.operation}", **self._named(name), **given)
        except AWSError as error:
            if not error.is_duplicate or self.owned(name, owner) is None:
                raise

    def delete(self, name: str) -> None:
        """Delete a resource; it is no error if it is gone."""
        try:
            self._calls("sagemaker", f"delete_{self.kind.operation}", **self._named(name))
        except AWSError as error:
            if not error.is_absent:
                raise

    def _named(self, name: str) -> dict[str, str]:
        return {f"{self.kind.key}Name": name}
