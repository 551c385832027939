"""Marks shims for differences between releases, with the release that makes them obsolete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Difference:
    """Why a function is there.

    Attributes:
        package: The distribution that differs.
        since: The first release that means it in the new way.
        drop: The oldest supported release of ``package`` at which the function has no more use and may be deleted.
        link: Upstream's documentation or issue.
    """

    package: str
    since: str
    drop: str
    link: str

    def __post_init__(self) -> None:
        """Hold a date that can be compared.

        Raises:
            ValueError: If the function could be dropped before it is needed.
        """
        if Version(self.drop) < Version(self.since):
            raise ValueError(f"{self.package}: added in {self.since}, so it cannot be dropped in {self.drop}.")


def difference(package: str, *, since: str, drop: str, link: str) -> Callable[[F], F]:
    """Mark a function as the one place that knows a difference between releases; it is found by ``__difference__``.

    Args:
        package: The distribution that differs.
        since: The first release that means it in the new way.
        drop: The oldest supported release of ``package`` at which the function may be deleted.
        link: Upstream's documentation or issue.
    """
    what = Difference(package, since, drop, link)

    def mark(function: F) -> F:
        function.__difference__ = what  # type: ignore[attr-defined]
        return function

    return mark
