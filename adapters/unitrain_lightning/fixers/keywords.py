"""``Trainer(**kwargs)`` where the names that ``kwargs`` may hold can be seen in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.variables import Holder, others, uses
from unitrain_lightning.fixers.trainer_arguments import OLD_NAMES

if TYPE_CHECKING:
    from unitrain.migrate.arguments import Argument
    from unitrain.migrate.source import Source


def names(source: Source, given: Argument) -> list[str] | None:
    """Return the names that a ``**mapping`` may hold, or None if they cannot be seen.

    They can if it is the ``**kwargs`` of a function whose calls all stand in the file, or a dict that is written out.
    """
    node = given.node.value
    scope = source.scope(node)
    if given.star != "**" or not isinstance(node, cst.Name) or scope is None:
        return None
    holders = {id(one.scope): one.scope for one in scope[node.value]}
    if len(holders) != 1 or len(uses(source, Holder(node.value, scope=next(iter(holders.values()))))) != 1:
        return None
    found = _of_function(source, node)
    found = _of_dict(source, node) if found is None else found
    return None if found is None or set(found) & OLD_NAMES else found


def _of_function(source: Source, node: cst.Name) -> list[str] | None:
    function = source.around(node, cst.FunctionDef)
    if function is None or function.params.star_kwarg is None or function.params.star_kwarg.name.value != node.value:
        return None
    name = function.name.value
    made = [one for one in source.all(cst.Call) if isinstance(one.func, cst.Name) and one.func.value == name]
    named = [one for one in source.all(cst.Name) if one.value == name and not _is_word(source, one)]
    if not made or len(source.functions(name)) != 1 or len(named) != len(made) + 1:
        return None
    if any(one.star for call in made for one in call.args):
        return None
    params = function.params
    own = {one.name.value for one in (*params.posonly_params, *params.params, *params.kwonly_params)}
    words = [one.keyword.value for call in made for one in call.args if one.keyword is not None]
    return list(dict.fromkeys(word for word in words if word not in own))


def _is_word(source: Source, node: cst.Name) -> bool:
    """Return whether a name is that of an attribute or of an argument."""
    around = source.parent(node)
    return (isinstance(around, cst.Attribute) and around.attr is node) or (
        isinstance(around, cst.Arg) and around.keyword is node
    )


def _of_dict(source: Source, node: cst.Name) -> list[str] | None:
    scope = source.scope(node)
    assigned = [] if scope is None else [getattr(one, "node", None) for one in scope[node.value]]
    statement = source.around(assigned[0], cst.Assign) if len(assigned) == 1 and assigned[0] is not None else None
    if statement is None or others(source, Holder(node.value, scope=scope), [statement.value]):
        return None
    value = statement.value
    if isinstance(value, cst.Dict):
        keys = [one.key if isinstance(one, cst.DictElement) else None for one in value.elements]
        texts = [one.raw_value for one in keys if isinstance(one, cst.SimpleString)]
        return texts if len(texts) == len(keys) else None
    if isinstance(value, cst.Call) and source.code(value.func) == "dict":
        words = [one.keyword.value for one in value.args if one.keyword is not None]
        return words if len(words) == len(value.args) else None
    return None


def taken_out(mapping: str, foreign: list[str]) -> str:
    """Return the text that takes some names out of a mapping, if it holds them."""
    shown = "".join(f'"{name}", ' for name in foreign).rstrip()
    shown = shown if len(foreign) == 1 else shown.rstrip(",")
    return f"**{{name: {mapping}.pop(name) for name in ({shown}) if name in {mapping}}}"
