"""Sanitizes names for tracker libraries."""

from __future__ import annotations

import posixpath
import re
import zlib

from unitrain.loggers.outlet import tell

MLFLOW = {"@": "_at_", "%": "_percent", "+": "_plus", "=": "_"}
"""Replacements for characters that MLflow does not allow in names; all others become ``_``."""

_TAKEN = re.compile(r"[\w\-. /]")
_LONGEST = 250


class MLflowNames:
    """Converts names of values to names that MLflow accepts, and warns once of each changed one.

    MLflow accepts letters, digits, ``_``, ``-``, ``.``, blanks and ``/``, in at most 250 characters, as a relative
    path: ``val/acc@5`` is stored as ``val/acc_at_5``, ``f1 (macro)`` as ``f1 _macro_``. If two names would become
    equal, each gets a suffix.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """Return the name under which a value is stored."""
        if name not in self._known:
            made = _taken(name)
            if made != name:
                made = made if made not in self._known.values() else _marked(made, name)
                tell(f"MLflow does not allow the name {name!r}; the value is stored as {made!r}.")
            self._known[name] = made
        return self._known[name]


def _taken(name: str) -> str:
    made = "".join(one if _TAKEN.match(one) else MLFLOW.get(one, "_") for one in name)
    made = posixpath.normpath(made).lstrip("/.") or "_"
    return made if len(made) <= _LONGEST else _marked(made, name)


def _marked(made: str, name: str) -> str:
    mark = f"-{zlib.crc32(name.encode()):08x}"
    return made[: _LONGEST - len(mark)] + mark
