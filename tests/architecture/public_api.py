"""Writes public_api.txt, the names and signatures that users may rely on: `make docs`.

A change of a line there is a change for users: it needs a line in CHANGELOG.md, and an old name stays for a while, marked with
`unitrain.compat.deprecation.deprecated`.
"""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from pathlib import Path

import unitrain

PAGE = Path(__file__).with_name("public_api.txt")
DEEP = {"unitrain.compat": ["upgrade"], "unitrain.distributed.ray": ["RayTrainer"]}
"""What is public beside the names of ``unitrain``."""


def described(name: str, thing: object) -> list[str]:
    """Return the lines about a public name: its signature, and those of its public methods."""
    if inspect.isclass(thing) and issubclass(thing, Enum):
        return [f"{name}.{member}" for member in thing.__members__]
    if not inspect.isclass(thing):
        return [f"{name}{_signature(thing)}" if callable(thing) else name]
    own = [cls for cls in thing.__mro__ if cls.__module__.startswith("unitrain")]
    members = {key: value for cls in reversed(own) for key, value in vars(cls).items() if not key.startswith("_")}
    return [
        f"{name}{_signature(thing)}",
        *(f"  {line}" for key in sorted(members) for line in _member(key, members[key])),
    ]


def _member(name: str, member: object) -> list[str]:
    if isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    return [f".{name}{_signature(member)}"] if inspect.isfunction(member) else [f".{name}"]


def _signature(thing: object) -> str:
    signature = inspect.signature(thing)
    bare = [
        one.replace(annotation=inspect.Parameter.empty, default=_default(one.default))
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


class _Unnamed:
    def __repr__(self) -> str:
        return "..."


def _default(given: object) -> object:
    """Return the default, or dots for one whose text has an address."""
    return _Unnamed() if " at 0x" in repr(given) else given


def text() -> str:
    """Return the page."""
    lines = [
        line for name in unitrain.__all__ if name != "__version__" for line in described(name, getattr(unitrain, name))
    ]
    for module, names in DEEP.items():
        home = __import__(module, fromlist=names)
        lines += [line for name in names for line in described(f"{module}.{name}", getattr(home, name))]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.name}: {PAGE.write_text(text())} characters\n")
