"""What torch says when it cannot follow a model, in words of the user's code: the line and the way out."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unitrain.errors import ExportError

if TYPE_CHECKING:
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


def explained(error: Exception, request: Request) -> ExportError:
    """Return the error for what torch raised while it followed ``request.module``."""
    name = type(request.source).__name__
    kinds = " ".join(type(one).__name__ for one in _chain(error)) + str(error)[:4000]
    what, hint = next(
        ((what, hint) for word, what, hint in _KINDS if word in kinds),
        ("torch.export cannot follow it", "mend the line, or leave it to preprocess= or postprocess= of your own."),
    )
    return ExportError(f"{name} cannot be exported: {what}.\n{_where(error)}{str(error).strip()[:1200]}", hint=hint)


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]


def _where(error: Exception) -> str:
    """Return the last line outside of torch that was running."""
    inside = Path(torch.__file__).parent
    for one in _chain(error):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            path = Path(frame.filename)
            if inside not in path.parents and Path(__file__).parent not in path.parents:
                return f"{path.name}:{frame.lineno}, in {frame.name}: {frame.line}\n"
    return ""
