"""The protocol of a provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.deployment.bundle.bundle import Bundle
    from unitrain.deployment.steps import Step


ACCEPTED: Final = 'provider= is "local", "aws", "gcp", or that of an installed package.'


@dataclass(frozen=True)
class Request:
    """What is to be deployed.

    Attributes:
        bundle: The bundle; its files are intact.
        name: Of the deployment.
        identity: Ten hexadecimal digits of the hash of the bundle and the settings: equal for what is the same.
        call: Differs in each call; what a call creates is marked with it, so that it takes back nothing else.
    """

    bundle: Bundle
    name: str
    identity: str
    call: str

    @property
    def version(self) -> str:
        """The name of what belongs to this content: ``unitrain-digits-0123456789``."""
        return f"unitrain-{self.name}-{self.identity}"


@dataclass(frozen=True)
class Status:
    """The state of a deployment.

    Attributes:
        name: Of the deployment.
        state: In the provider's words; ``"absent"`` if there is none.
        is_ready: Whether it answers.
        reason: Why it is not, in the provider's words.
        details: What else is known, by name.
    """

    name: str
    state: str
    is_ready: bool
    reason: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "name": self.name,
            "state": self.state,
            "ready": self.is_ready,
            "reason": self.reason,
            **self.details,
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.state}", *(f"  {name}: {value}" for name, value in self.details.items())]
        return "\n".join([*lines, f"  reason: {self.reason}"] if self.reason else lines)


class Provider(Protocol):
    """Where bundles run.

    It is made of its settings, without any call.

    Attributes:
        name: Of its entry point.
        settings_type: The frozen dataclass of its settings; see ``settings.py``.
        targets: The targets of the bundles that it takes.
        settings: The settings that it was made of.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type]
    targets: ClassVar[tuple[str, ...]]

    settings: Any

    def __init__(self, settings: Any) -> None:
        """Keep the settings; nothing is asked."""

    def check_name(self, name: str) -> None:
        """Refuse a name that the provider would refuse; nothing is asked.

        Raises:
            DeployError: If it is invalid.
        """
        ...

    def plan(self, request: Request) -> Sequence[Step]:
        """Return the steps that lead from what is there to ``request``; it only reads.

        Raises:
            DeployError: If it is certain that it cannot work, such as without credentials, or for a foreign resource.
        """
        ...

    def removal(self, name: str) -> Sequence[Step]:
        """Return the steps that remove a deployment: of what unitrain made, and nothing else; it only reads.

        Raises:
            DeployError: If what has the name is not unitrain's.
        """
        ...

    def status(self, name: str) -> Status:
        """Return the state of a deployment; it only reads."""
        ...

    def url(self, name: str) -> str:
        """Return the address that is asked for predictions."""
        ...

    def ask(self, name: str, content: Mapping[str, Any]) -> Any:
        """Send ``content`` as JSON, and return the answer.

        Raises:
            DeployError: If it is not answered.
        """
        ...
