"""Calls of the Trainer's methods, as UnifiedTrainer takes them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from unitrain.migrate.arguments import Argument, arguments, dropped, renamed
from unitrain.migrate.findings import Edit, Finding, Rule, person
from unitrain.migrate.variables import is_statement
from unitrain_lightning.fixers.loaders import may_be_several

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unitrain.migrate.source import Source

RUN = Rule("lightning-run", "the arguments of fit, validate, test and predict; validate and test return one dict")


class Method(NamedTuple):
    """How a method is called.

    Attributes:
        parameters: Its parameters in Lightning; empty ones may not be given by position.
        names: Their names in unitrain.
        dropped: Arguments that go, and the values for which they do; any value if there are none.
        unused: As ``dropped``, where the value of the call is not used.
        returns_list: Whether Lightning returns a list where unitrain returns what is in it.
    """

    parameters: tuple[str, ...]
    names: dict[str, str]
    dropped: dict[str, tuple[object, ...]]
    unused: Mapping[str, tuple[object, ...]] = MappingProxyType({})
    returns_list: bool = False


_EVALUATION = {"model": "spec", "test_dataloaders": "dataloaders", "val_dataloaders": "dataloaders"}
_EVALUATED = {**_EVALUATION, "datamodule": "dataloaders", "dataloaders": "dataloaders", "ckpt_path": "ckpt_path"}
METHODS = {
    "fit": Method(
        ("model", "train_dataloaders", "val_dataloaders", "datamodule"),
        {
            "model": "spec",
            "train_dataloader": "train_dataloaders",
            "train_dataloaders": "train_dataloaders",
            "val_dataloaders": "val_dataloaders",
            "datamodule": "train_dataloaders",
            "ckpt_path": "ckpt_path",
        },
        {"weights_only": (None,)},
    ),
    "validate": Method(
        ("model", "dataloaders", "ckpt_path", "verbose"),
        {**_EVALUATED, "verbose": "verbose"},
        {"weights_only": (None,)},
        returns_list=True,
    ),
    "test": Method(
        ("model", "dataloaders", "ckpt_path", "verbose"),
        {**_EVALUATED, "verbose": "verbose"},
        {"weights_only": (None,)},
        returns_list=True,
    ),
    "predict": Method(
        ("model", "dataloaders", "datamodule"),
        _EVALUATED,
        {"return_predictions": (True, None), "weights_only": (None,)},
        unused={"return_predictions": ()},
    ),
}


def find_run(source: Source, call: cst.Call, name: str, folder: str | None) -> Iterator[Finding]:
    """Find what is to change at a call of one of the METHODS; ``folder`` is that of the file."""
    method, start = METHODS[name], source.start(call)
    given = arguments(source, call)
    if is_statement(source, call):
        method = method._replace(dropped={**method.dropped, **method.unused})
    listed = method.returns_list and not is_statement(source, call)
    refused = _refusal(name, method, given)
    if listed and may_be_several(source, call, name, folder):
        refused = refused or "it may evaluate several loaders, and UnifiedTrainer returns one dict for all of them"
    if refused:
        yield person(RUN.name, start, f"trainer.{name}: {refused}", f"UnifiedTrainer.{name} by hand")
        return
    edits, told = _arguments(source, call, method, given)
    if listed:
        edits += _one_dict(source, call)
        told.append("it returns one dict")
    if edits:
        reason = f"UnifiedTrainer.{name} has different arguments and results"
        yield Finding(RUN.name, start, reason, ", ".join(told), tuple(edits), needed=True)


def _refusal(name: str, method: Method, given: list[Argument]) -> str:
    """Return why a call cannot be rewritten; empty if it can."""
    named = [_unitrain_name(method, one) for one in given]
    twice = [one for one in named if one and named.count(one) > 1]
    unknown = [one.keyword for one in given if one.keyword and not _known(method, one)]
    reasons = (
        # by position the first arguments are the same, so what *loaders holds need not be seen
        (any(one.star == "**" or (one.star and name != "fit") for one in given), "its arguments are unknown"),
        (len([one for one in given if not one.keyword]) > len(method.parameters), "it has too many arguments"),
        (bool(unknown), f"there is no {', '.join(unknown)}= in unitrain"),
        (bool(twice), f"it has both loaders and a datamodule for {name}"),
    )
    return next((reason for refused, reason in reasons if refused), "")


def _known(method: Method, given: Argument) -> bool:
    accepted = method.dropped.get(given.keyword)
    if accepted is not None:
        return not accepted or given.value in accepted
    return given.keyword in method.names


def _lightning_name(method: Method, given: Argument) -> str:
    return given.keyword or ("" if given.star else method.parameters[given.index])


def _unitrain_name(method: Method, given: Argument) -> str:
    old = _lightning_name(method, given)
    if old == "datamodule" and given.value is None:
        return ""
    return method.names.get(old, "")


def _arguments(source: Source, call: cst.Call, method: Method, given: list[Argument]) -> tuple[list[Edit], list[str]]:
    edits: list[Edit] = []
    told: list[str] = []
    for one in given:
        old, new = _lightning_name(method, one), _unitrain_name(method, one)
        if one.star:
            continue
        if not new:
            edits.append(dropped(source, call, one))
            told.append(f"without {old}")
        elif (one.keyword and one.keyword != new) or (not one.keyword and old == "datamodule"):
            edits.append(renamed(source, one, new))
            told.append(f"{new}=")
    return edits, told


def _one_dict(source: Source, call: cst.Call) -> list[Edit]:
    """Return the edits that make the value of a call what it was: a list, or the first of it."""
    around = source.parent(call)
    if (
        isinstance(around, cst.Subscript)
        and around.value is call
        and source.between(source.end(call), source.end(around)) in ("[0]", "[-1]")
    ):
        return [Edit(source.end(call), source.end(around), "")]
    return [Edit(source.start(call), source.start(call), "["), Edit(source.end(call), source.end(call), "]")]
