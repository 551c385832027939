"""What torch says when it cannot follow a model, in words of the user's code: the line and the way out."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unitrain.errors import ExportError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from unitrain.export.request import Request

_KINDS = (
    (
        "GuardOnDataDependent",
        "what the code does depends on the numbers in a tensor, and a graph does one thing",
        "torch.where(condition, a, b) computes both and chooses; torch.cond keeps two branches.",
    ),
    (
        "ConstraintViolation",
        "an axis that may have any length is a constant in the code, or has bounds there",
        (
            "use x.shape[0], or -1, in the place of a number; or leave the axis out of dynamic_axes (dynamic_axes={}:"
            " none), or give its bounds, torch.export.Dim(name, min=, max=)."
        ),
    ),
)


_OTHER = (
    "torch cannot follow it",
    "mend the line, or do that part outside of the model.",
)
_NODE = re.compile(r"translating node %(\w+)")


def explained(error: Exception, request: Request, program: ExportedProgram | None = None) -> ExportError:
    """Return the error for what torch raised while it followed ``request.module``.

    Args:
        error: What torch raised.
        request: What was to be written.
        program: The graph, if there is one already: torch then names a node of it.
    """
    chain = _chain(error)
    said = "\n".join(f"{type(one).__name__}: {one}" for one in chain)
    what, hint = next(((what, hint) for word, what, hint in _KINDS if word in said), _OTHER)
    operator = _OPERATOR.search(said)
    if operator is not None:
        what = f"{operator[1]} is no operator that ONNX has"
        hint = 'compute it otherwise; format="torch_export" keeps every operator of torch.'
    where = _where(chain) if program is None else _line_of(program, said)
    return ExportError(
        f"{type(request.source).__name__} cannot be exported: {what}.\n{where}{str(chain[-1]).strip()[:1000]}",
        hint=hint,
    )


_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


def _line_of(program: ExportedProgram, said: str) -> str:
    """Return the line that made the node that torch names."""
    found = _NODE.search(said)
    if found is None:
        return ""
    traces = [node.meta.get("stack_trace") or "" for node in program.graph.nodes if node.name == found[1]]
    lines = [line for trace in traces for line in trace.strip().splitlines()]
    return f"node {found[1]}: {' '.join(line.strip() for line in lines[-2:])}\n"


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]


def _where(chain: list[BaseException]) -> str:
    """Return the last line outside of torch that was running."""
    inside = Path(torch.__file__).parent
    for one in chain:
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            path = Path(frame.filename)
            if inside not in path.parents and Path(__file__).parent not in path.parents:
                return f"{path.name}:{frame.lineno}, in {frame.name}: {frame.line}\n"
    return ""
