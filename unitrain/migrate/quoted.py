"""Code within a string, which no fixer rewrites: magics of an exported notebook, ``exec``, ``cProfile.run``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.arguments import arguments, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

_METHODS: Final = frozenset({"magic", "run_cell", "run_cell_magic", "run_line_magic"})
_FUNCTIONS: Final = frozenset(
    {"cProfile.run", "cProfile.runctx", "eval", "exec", "profile.run", "timeit.Timer", "timeit.repeat", "timeit.timeit"}
)


def quoted(source: Source) -> Iterator[tuple[cst.Call, set[str]]]:
    """Yield the calls that run code in a string, with the names in it."""
    for call in source.all(cst.Call):
        method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        if method in _METHODS or (source.name(call.func) or source.code(call.func)) in _FUNCTIONS:
            texts = [literal(one.text) for one in arguments(source, call) if not one.star]
            words = re.findall(r"(?<![\w.])[A-Za-z_]\w*", " ".join(one for one in texts if isinstance(one, str)))
            yield call, set(words)
