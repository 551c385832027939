"""Marks deprecated public names: they warn with the replacement and the release that removes them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable

_MINOR_RELEASES = 2
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Deprecation:
    """The deprecation of a public name.

    Attributes:
        name: The deprecated name.
        since: The release that deprecated it.
        remove: The release that removes it: at least two minor releases later; the first release of a major version is
            one of them.
        instead: The replacement.
    """

    name: str
    since: str
    remove: str
    instead: str

    def __post_init__(self) -> None:
        """Check that users have the time that docs/policy.md promises.

        Raises:
            ValueError: If fewer than two minor releases are between.
        """
        since, remove = Version(self.since), Version(self.remove)
        majors = remove.major - since.major
        minors = remove.minor - since.minor if majors == 0 else majors + remove.minor
        if majors < 0 or minors < _MINOR_RELEASES:
            raise ValueError(
                f"{self.name}: deprecated in {self.since}, so it cannot be removed in {self.remove}: a deprecated name"
                f" stays for at least {_MINOR_RELEASES} minor releases."
            )

    def __str__(self) -> str:
        """Return the text of the warning."""
        told = f"{self.name} is deprecated since unitrain {self.since} and will be removed in {self.remove}."
        return f"{told} Use {self.instead}."


def deprecated(*, since: str, remove: str, instead: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a function, or the getter of a property, as deprecated; each call warns.

    Args:
        since: The release that deprecates it.
        remove: The release that removes it.
        instead: The replacement.

    Example:
        >>> @deprecated(since="0.2", remove="0.4", instead="new()")
        ... def old():
        ...     return 1
        >>> str(old.__deprecation__)
        'old is deprecated since unitrain 0.2 and will be removed in 0.4. Use new().'
    """

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        what = Deprecation(function.__qualname__, since, remove, instead)

        @functools.wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> T:
            warnings.warn(str(what), DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        marked: Any = warned
        marked.__deprecation__ = what
        return warned

    return mark
