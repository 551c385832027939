"""Lightning's names, whichever of its packages they are imported from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.variables import bases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

PACKAGES = ("pytorch_lightning", "lightning")
_PREFIX = re.compile(r"(pytorch_lightning|lightning\.pytorch|lightning)\.(.+)")
TRAINER = {"Trainer", "trainer.Trainer", "trainer.trainer.Trainer"}
_MODULE = re.compile(r"(core\.(\w+\.)?)?LightningModule")
_DATA = re.compile(r"(core\.(\w+\.)?)?LightningDataModule")
_CALLBACK = re.compile(r"Callback|callbacks\..+")
_OTHERS = ("torch.", "abc.", "typing.", "ignite.")
"""Packages whose classes are no LightningModules."""


def short(name: str) -> str:
    """Return a dotted name without Lightning's package; empty if it is not of Lightning."""
    found = _PREFIX.fullmatch(name)
    return found.group(2) if found else ""


def package(source: Source) -> str:
    """Return the package that the file imports Lightning by."""
    names = set(source.imported())
    if any(one.partition(".")[0] == "pytorch_lightning" for one in names):
        return "pytorch_lightning"
    return "lightning.pytorch"


def calls(source: Source, wanted: set[str]) -> Iterator[cst.Call]:
    """Yield the calls of some names of Lightning."""
    for call in source.all(cst.Call):
        if short(source.name(call.func)) in wanted:
            yield call


def is_module(source: Source, owner: cst.ClassDef) -> bool:
    """Return whether a class is a LightningModule, or is written like one."""
    known = [short(name) for name in bases(source, owner)]
    if any(_MODULE.fullmatch(name) for name in known):
        return True
    methods = {one.name.value for one in methods_of(owner)}
    written = not is_callback(source, owner) and {"training_step", "configure_optimizers"} <= methods
    return written and (_may_extend(source, owner) or any(_is_one(source, one) for one in _heirs(source, owner)))


def _is_one(source: Source, owner: cst.ClassDef) -> bool:
    return any(_MODULE.fullmatch(short(name)) for name in bases(source, owner))


def _heirs(source: Source, owner: cst.ClassDef) -> list[cst.ClassDef]:
    name = owner.name.value
    named = [(one, [source.code(base.value) for base in one.bases]) for one in source.all(cst.ClassDef)]
    return [one for one, written in named if name in written]


def _may_extend(source: Source, owner: cst.ClassDef) -> bool:
    """Return whether a class has a base that the file does not show, and that may be a LightningModule."""
    local = {one.name.value: one for one in source.all(cst.ClassDef)}
    seen = [owner]
    for one in seen:
        for base in one.bases:
            known = local.get(source.code(base.value))
            if known is not None:
                seen += [known] if known not in seen else []
            elif source.code(base.value) != "object" and not source.name(base.value).startswith(_OTHERS):
                return True
    return False


def is_data(source: Source, owner: cst.ClassDef) -> bool:
    """Return whether a class is a LightningDataModule."""
    return any(_DATA.fullmatch(short(name)) for name in bases(source, owner))


def is_callback(source: Source, owner: cst.ClassDef) -> bool:
    """Return whether a class is a callback of Lightning's."""
    return any(_CALLBACK.fullmatch(short(name)) for name in bases(source, owner))


def methods_of(owner: cst.ClassDef) -> list[cst.FunctionDef]:
    """Return the methods of a class."""
    return [one for one in owner.body.body if isinstance(one, cst.FunctionDef)]


def method(owner: cst.ClassDef, name: str) -> cst.FunctionDef | None:
    """Return a method of a class."""
    return next((one for one in methods_of(owner) if one.name.value == name), None)


def parameters(function: cst.FunctionDef) -> list[cst.Param]:
    """Return the positional parameters of a function."""
    return [*function.params.posonly_params, *function.params.params]


def end_of(source: Source, node: cst.CSTNode) -> int:
    """Return the byte after a parameter, with its annotation and its default; or after any other node."""
    parts = [node.annotation and node.annotation.annotation, node.default] if isinstance(node, cst.Param) else []
    return max(source.end(one) for one in (node, *parts) if one is not None)


def uses_of(source: Source, function: cst.FunctionDef, name: str) -> list[cst.Name]:
    """Return the places in a function's body that use one of its parameters."""
    found = []
    for one in source.all(cst.Name, function.body):
        around = source.parent(one)
        attribute = isinstance(around, cst.Attribute) and around.attr is one
        keyword = isinstance(around, cst.Arg) and around.keyword is one
        if one.value == name and not attribute and not keyword:
            found.append(one)
    return found


def called_by_hand(source: Source, name: str, within: cst.FunctionDef) -> bool:
    """Return whether the file asks for a method of some name outside of the method itself."""
    inside = {id(one) for one in source.all(cst.Attribute, within)}
    return any(one.attr.value == name and id(one) not in inside for one in source.all(cst.Attribute))


def bases_of_trainer(source: Source) -> list[cst.ClassDef]:
    """Return the classes of the file that extend the Trainer."""
    return [one for one in source.all(cst.ClassDef) if any(short(name) in TRAINER for name in bases(source, one))]
