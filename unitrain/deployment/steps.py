"""What a deployment does, as a list of steps that can be shown before, and taken back after, they are done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from unitrain.utilities.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Callable

Poll: TypeAlias = "Callable[[], str | None]"
"""Returns the state of what is waited for, in the provider's words, and None once it is reached.

It raises DeployError, with the provider's reason, where it can no longer be reached.
"""


class Verb(StrEnum):
    """What a step does to a resource."""

    CREATE = "create"
    KEEP = "keep"
    UPDATE = "update"
    DELETE = "delete"
    WAIT = "wait for"


@dataclass(frozen=True)
class Step:
    """One call to a provider, and the wait for its effect.

    Attributes:
        verb: What it does.
        kind: What kind of resource it is about, in the provider's words: ``"endpoint config"``.
        name: The name of the resource.
        detail: What a person may want to know: a size, a reason.
        do: Makes the call; None for what is there already.
        ready: Is asked until the effect is there; None if that is at once.
        undo: The steps that take back exactly what ``do`` made, even if it failed in the middle.
        is_cleanup: Whether the deployment is complete without it: its failure warns, and takes nothing back.
    """

    verb: Verb
    kind: str
    name: str
    detail: str = ""
    do: Callable[[], object] | None = None
    ready: Poll | None = None
    undo: tuple[Step, ...] = ()
    is_cleanup: bool = False

    @property
    def title(self) -> str:
        """The resource, for a message."""
        return f"{self.kind} {self.name}"

    def described(self) -> dict[str, str]:
        """Return it as plain values, for JSON."""
        return {"action": self.verb.value, "kind": self.kind, "name": self.name, "detail": self.detail}


@dataclass(frozen=True)
class Plan:
    """The steps of a call, in order.

    Attributes:
        title: What they are for: ``"deploy digits on aws"``.
        steps: The steps.
    """

    title: str
    steps: tuple[Step, ...]

    @property
    def changes(self) -> bool:
        """Whether anything is to be done: something may still be waited for."""
        return any(step.do is not None for step in self.steps)

    def __str__(self) -> str:
        rows = [(step.verb.value, step.kind, step.name, step.detail) for step in self.steps]
        lines = [f"  {line}" for line in in_columns(rows)] or ["  nothing is there"]
        return "\n".join([f"{self.title}:", *lines])
