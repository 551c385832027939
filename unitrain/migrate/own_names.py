"""unitrain names that were moved or renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.variables import held_by, holder, others, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source
    from unitrain.migrate.variables import Holder

MOVED = Rule("unitrain-moved", "public names of modules that moved are imported from unitrain")
RENAMED = Rule("unitrain-renamed", "trainer.bridged of a UnifiedTrainer is trainer.foreign_trainer")

TRAINERS: Final = frozenset({"unitrain.UnifiedTrainer", "unitrain.trainer.UnifiedTrainer"})

_PUBLIC = {
    "unitrain.batch_size_finder": ("BatchSizeFinder",),
    "unitrain.checkpoint.convert": ("convert_checkpoint",),
    "unitrain.checkpoint.snapshot": ("load_weights",),
    "unitrain.class_names": ("per_class",),
    "unitrain.combined": ("CombinedLoader",),
    "unitrain.context": ("RunContext",),
    "unitrain.data": ("DataSpec",),
    "unitrain.distributed.shards": ("OwnBatches", "ShardedBatches"),
    "unitrain.distributed.strategy": ("DDP", "FSDP"),
    "unitrain.engines": ("from_engine", "from_step"),
    "unitrain.events": ("CustomEvent", "Event", "RunState"),
    "unitrain.export.exporting": ("export_module",),
    "unitrain.gathering": ("vectorized",),
    "unitrain.lr_finder": ("LRFinder",),
    "unitrain.metrics": ("metric",),
    "unitrain.result": ("FitResult",),
    "unitrain.rng": ("seed_everything",),
    "unitrain.summary": ("Summary", "summarize"),
}
"""The public names of each module as it was called; today they are all in ``unitrain``."""

PLACES: Final = {
    **{f"{module}.{name}": "unitrain" for module, names in _PUBLIC.items() for name in names},
    "unitrain.checkpoint.parts.consolidate": "unitrain.checkpoint.sharded_files",
}
"""The module that has a name today, by the dotted name that it had."""

_MODULES = {name.rpartition(".")[0] for name in PLACES}
_RENAMED = {"bridged": "foreign_trainer"}


def find_moved(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old places where names are imported from them, and where a module is imported whole."""
    del goal
    for node in source.all(cst.ImportFrom):
        module = "" if node.module is None or node.relative else source.code(node.module)
        if isinstance(node.names, cst.ImportStar):
            if module in _MODULES:
                yield person(MOVED.name, source.start(node), f"{module} has moved", "from unitrain import ...")
            continue
        yield from _from(source, node, module, [alias.evaluated_name for alias in node.names])
    for one in source.all(cst.Import):
        for alias in one.names:
            if source.code(alias.name) in _MODULES:
                yield from _whole(source, source.code(alias.name), alias.name, "{}")


def _from(source: Source, node: cst.ImportFrom, module: str, names: list[str]) -> Iterator[Finding]:
    whole = [name for name in names if f"{module}.{name}" in _MODULES]
    places = {PLACES.get(f"{module}.{name}", "") for name in names}
    if whole and len(names) == 1:
        # to name the module as before, whatever it is called there
        bound = "" if node.names[0].asname else f" as {whole[0]}"  # type: ignore[index]
        yield from _whole(source, f"{module}.{whole[0]}", node, f"import {{}}{bound}")
    elif len(places) == 1 and "" not in places:
        yield _found(source, module, node.module, *places)  # type: ignore[arg-type]
    elif places != {""}:
        start = source.start(node)
        yield person(MOVED.name, start, f"{module} has moved, and not all of these names are public", "by hand")


def _whole(source: Source, module: str, node: cst.CSTNode, written: str) -> Iterator[Finding]:
    """Find an import of a whole module, with what is read off it."""
    names = {id(one): source.name(one) for one in source.all(cst.Attribute)}
    read = [one for one in source.all(cst.Attribute) if names[id(one)].rpartition(".")[0] == module]
    places = {PLACES.get(names[id(one)], "") for one in read}
    if not places or "" in places or len(places) > 1:
        if places - {""}:
            reason = f"{module} has moved, and not all that is read off it is public"
            yield person(MOVED.name, source.start(node), reason, "by hand")
        return
    (place,) = places
    edits = [
        Edit(source.start(one.value), source.end(one.value), place) for one in read if source.code(one.value) == module
    ]
    edits.append(Edit(source.start(node), source.end(node), written.format(place)))
    yield Finding(MOVED.name, source.start(node), f"{module} has moved", place, tuple(edits), needed=True)


def _found(source: Source, module: str, node: cst.CSTNode, place: str) -> Finding:
    edit = Edit(source.start(node), source.end(node), place)
    return Finding(MOVED.name, edit.start, f"{module} has moved", place, (edit,), needed=True)


def find_renamed(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find old names that are read off a UnifiedTrainer: one that the file makes, or a parameter annotated as one."""
    del goal
    made = [one for one in source.all(cst.Call) if source.name(one.func) in TRAINERS]
    for call in made:
        yield from _read(source, call)
    seen: dict[tuple[str, int], Holder] = {}
    for variable in (*(held_by(source, call) for call in made), *_parameters(source)):
        if variable is not None:
            seen.setdefault(variable.key, variable)
    for variable in seen.values():
        given = [one for one in others(source, variable, made) if not isinstance(one, cst.Param)]
        for use in uses(source, variable) if not given else ():
            yield from _read(source, use)


def _parameters(source: Source) -> Iterator[Holder | None]:
    for one in source.all(cst.Param):
        if one.annotation is not None and source.name(one.annotation.annotation) in TRAINERS:
            yield holder(source, one.name)


def _read(source: Source, value: cst.CSTNode) -> Iterator[Finding]:
    node = source.parent(value)
    if isinstance(node, cst.Attribute) and node.value is value and node.attr.value in _RENAMED:
        old, new = node.attr.value, _RENAMED[node.attr.value]
        edit = Edit(source.start(node.attr), source.end(node.attr), new)
        yield Finding(RENAMED.name, source.start(node), f"trainer.{old} is deprecated", f"trainer.{new}", (edit,))


FIXERS: Final = (Fixer((MOVED,), find_moved), Fixer((RENAMED,), find_renamed))
