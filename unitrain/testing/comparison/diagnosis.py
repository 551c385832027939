"""Names the first tensor that differs, and says what that means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from unitrain.testing.comparison import kinds
from unitrain.testing.comparison.bits import Gap, gap
from unitrain.testing.comparison.difference import Difference
from unitrain.testing.comparison.record import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unitrain.testing.comparison.leaves import Leaf
    from unitrain.testing.comparison.record import Comparer, Mismatch, Segment
    from unitrain.testing.comparison.recorder import Kept

_DATA = "your data differs"
_SEED = "seed before the model is built: make() is called with the generators seeded, so build it within."
_OWN = (
    "give the loader a seeded generator, or seed what your dataset and transforms draw from within make();"
    " with workers, draw from torch, which seeds each worker."
)
_CAUSES = {
    kinds.INITIAL_PARAMETERS: ("the initial weights differ", _SEED),
    kinds.INITIAL_BUFFERS: ("the initial weights differ (a buffer)", _SEED),
    kinds.BATCH: (_DATA, _OWN),
    kinds.INPUT: ("the model's input differs, the batch does not", "look at what the step does to the batch."),
    kinds.RANDOM_STATE: (
        "the global random state differs, so something drew random numbers on one side only",
        "look for a draw that depends on the backend, on time, or on what was imported.",
    ),
    kinds.CALL_STATE: (
        "the random state at the model's call differs, so the step drew random numbers on one side only",
        "look at what the step draws before it calls the model.",
    ),
    kinds.OUTPUT: ("the forward pass differs for the same weights, input and random state", None),
    kinds.LOSS: ("the loss differs for the same output", None),
    kinds.GRADIENT: ("the gradients differ for the same loss: backward, hooks, clipping or scaling", None),
    kinds.PARAMETERS: ("the optimizer's step differs for the same gradients", None),
    kinds.BUFFERS: ("a buffer differs after the step", None),
    kinds.OPTIMIZER_STATE: ("the optimizer's state differs after the step", None),
    kinds.RATES: ("the optimizer's options, such as the learning rate, differ", None),
    kinds.SCHEDULES: ("the state of a learning rate schedule differs after the step", None),
    kinds.SCALER: ("the gradient scaler's state differs after the step", None),
    kinds.LOGGED: ("the logged values differ", None),
    kinds.METRICS: ("the metrics differ", None),
    kinds.EVENTS: ("the events differ", None),
    kinds.OUTCOME: ("the runs end differently", None),
    kinds.FINAL_PARAMETERS: ("the weights were changed after the last step", None),
    kinds.FINAL_BUFFERS: ("a buffer was changed after the last step", None),
}
_WAYS = {
    "dtype": "its dtype differs",
    "shape": "its shape differs",
    "type": "its type differs",
}


@dataclass(frozen=True)
class Evidence:
    """What is known of a mismatch on one side.

    Attributes:
        name: Of the side.
        kept: The entries of the segment with their values; empty if they could not be kept.
        modules: The outputs of modules in this segment.
        generators: Digests of the random number generators within the data, by place.
    """

    name: str
    kept: Sequence[Kept] = ()
    modules: Sequence[tuple[str, Sequence[Leaf]]] = ()
    generators: Mapping[str, str] | None = None


def diagnosed(
    mismatch: Mismatch, segment: Segment | None, comparer: Comparer, left: Evidence, right: Evidence
) -> Difference:
    """Return the difference at a mismatch.

    Args:
        mismatch: Where the records part.
        segment: The segment, on a side that has it.
        comparer: What is compared.
        left: What the first side kept.
        right: What the other side kept.
    """
    base = Difference(
        sides=(left.name, right.name),
        step=mismatch.segment,
        phase=kinds.LENGTH,
        kind=kinds.LENGTH,
        epoch=None if segment is None else segment.epoch,
        batch=None if segment is None else segment.batch,
    )
    if mismatch.position < 0:
        return base
    kind = mismatch.kinds[0]
    if kind is None or mismatch.kinds[0] != mismatch.kinds[1]:
        return _out_of_order(base, mismatch)
    found = replace(base, phase=kinds.PHASES[kind], kind=kind)
    pair = [aligned(one.kept, comparer.kinds, loop=comparer.loop) for one in (left, right)]
    if all(len(some) > mismatch.position for some in pair):
        first, second = (some[mismatch.position] for some in pair)
        found = _named(found, first.leaves, second.leaves)
    cause, hint = _meaning(found, comparer, left, right)
    module = first_module(left.modules, right.modules) if kind == kinds.OUTPUT else None
    return replace(found, cause=cause, hint=hint, module=module)


def _out_of_order(base: Difference, mismatch: Mismatch) -> Difference:
    told = ["the end of the step" if one is None else one for one in mismatch.kinds]
    cause = f"next, {base.sides[0]} has {told[0]}, {base.sides[1]} has {told[1]}"
    if {kinds.INPUT, kinds.CALL_STATE} & {*mismatch.kinds}:
        cause += ": one side calls the model once more"
    return replace(base, phase=kinds.ORDER, kind=kinds.ORDER, values=(told[0], told[1]), cause=cause)


def _named(found: Difference, left: Sequence[Leaf], right: Sequence[Leaf]) -> Difference:
    """Return the difference with the first value that differs."""
    first, second = dict(left), dict(right)
    missing = [name for name in first if name not in second], [name for name in second if name not in first]
    if any(missing):
        told = [", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing" for names in missing]  # noqa: PLR2004
        name = next(iter((*missing[0], *missing[1])))
        return replace(found, tensor=name, values=(f"only here: {told[0]}", f"only here: {told[1]}"))
    for name, value in first.items():
        one = gap(value, second[name])
        if one is not None:
            return with_gap(found, name, value, one)
    return found


def with_gap(found: Difference, name: str, value: Any, one: Gap) -> Difference:
    """Return the difference with the values of one tensor."""
    tensor = isinstance(value, Tensor)
    return replace(
        found,
        tensor=name,
        index=one.index,
        values=one.values,
        bits=one.bits,
        ulp=one.ulp,
        dtype=str(value.dtype).removeprefix("torch.") if tensor else type(value).__name__,
        shape=tuple(value.shape) if tensor else None,
        differing=one.differing,
        elements=one.elements,
        max_ulp=one.max_ulp,
    )


def _meaning(found: Difference, comparer: Comparer, left: Evidence, right: Evidence) -> tuple[str, str | None]:
    cause, hint = _CAUSES[found.kind]
    if found.kind == kinds.INPUT and kinds.BATCH not in comparer.kinds:
        cause, hint = f"{_DATA}, or how it becomes the model's input", _OWN
    if found.kind == kinds.BATCH:
        unlike = _unlike(left.generators or {}, right.generators or {})
        if unlike:
            cause += f": the generator at {unlike[0]} is in another state from the beginning"
    if found.kind == kinds.OUTPUT and comparer.loop and _other_state(left.kept, right.kept):
        cause = "the forward pass differs, and so does the random state at the model's call, from which dropout draws"
        hint = "draw in the same order: seed, the loader's order, then the step."
    return cause, hint


def _unlike(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    """Return the places of generators that began in different states."""
    return [f"data{place[1:] if place[:1] == '0' else place}" for place in left if right.get(place) != left[place]]


def _other_state(left: Sequence[Kept], right: Sequence[Kept]) -> bool:
    states = [[one.digest for one in some if one.kind == kinds.CALL_STATE] for some in (left, right)]
    return states[0] != states[1]


def first_module(left: Sequence[tuple[str, Sequence[Leaf]]], right: Sequence[tuple[str, Sequence[Leaf]]]) -> str | None:
    """Return the first module, in the order in which calls end, whose call differs; None if none does."""
    for (name, some), (other, others) in zip(left, right, strict=False):
        if name != other:  # one side calls a module that the other does not
            calls = [[one for one, _ in some].count(name) for some in (left, right)]
            return name if calls[0] > calls[1] else other
        if any(path != second or gap(value, same) for (path, value), (second, same) in zip(some, others, strict=False)):
            return name or None
    return None
