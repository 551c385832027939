"""Translates torch.export failures into errors that name the user's line and an alternative."""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from unitrain.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch.export import ExportedProgram

    from unitrain.export.request import Request


class _Kind(NamedTuple):
    """A kind of failure, recognised by a phrase in torch's message, with a hint."""

    word: str
    what: str
    hint: str


_KINDS = (
    _Kind(
        "GuardOnDataDependent",
        "the control flow depends on tensor values, which an exported graph cannot express",
        "use torch.where(condition, a, b), which computes both, or torch.cond, which keeps both branches.",
    ),
    _Kind(
        "ConstraintViolation",
        "the code fixes or bounds the size of a dynamic axis",
        "use x.shape[0] or -1 instead of a number; or remove the axis from dynamic_axes (dynamic_axes={}: none), or"
        " pass its bounds with torch.export.Dim(name, min=, max=).",
    ),
    _Kind(
        "No ONNX function found",
        "it uses an operator that ONNX does not have",
        'use other operators, or format="torch_export", which supports every torch operator.',
    ),
    _Kind("", "torch cannot trace it", "change the line, or move that part out of the model."),
)
_NODE = re.compile(r"translating node %(\w+)")
_GUARDS = "torch.fx.experimental.symbolic_shapes"
_GUARD = re.compile(r"eval (.+?) \[guard added\]")
_SHOWN = 700
_OURS = (Path(torch.__file__).parent, Path(__file__).parent)
_PYTHON, _INSTALLED = Path(logging.__file__).parents[1], "site-packages"


def explained(error: Exception, request: Request, program: ExportedProgram | None = None) -> ExportError:
    """Return the error for what torch raised while it followed ``request.module``.

    Args:
        error: The error of torch.
        request: The export request.
        program: The graph, if there is one already: torch then names a node of it.
    """
    chain = _chain(error)
    said = "\n".join(f"{type(one).__name__}: {one}" for one in chain)
    kind = next(one for one in _KINDS if one.word in said)
    lines = [line_of(error)] if program is None else _lines_of_node(program, said)
    if kind.word == "ConstraintViolation":
        lines = _lines_of_guards(request)
    told = "".join(f"{line}\n" for line in lines if line)
    return ExportError(
        f"{type(request.source).__name__} cannot be exported: {kind.what}.\n{told}{_said(chain[-1])}", hint=kind.hint
    )


def _said(error: BaseException) -> str:
    return str(error).strip().partition("\nFor more information")[0][:_SHOWN]


def line_of(error: BaseException) -> str:
    """Return the last line outside of torch and of unitrain's exports that was running; empty if there is none."""
    lines = (_users(traceback.extract_tb(one.__traceback__)) for one in _chain(error))
    return next((line for line in lines if line), "")


def _chain(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *_chain(error.__cause__ or error.__context__)]


def _users(frames: Iterable[traceback.FrameSummary]) -> str:
    for frame in reversed(list(frames)):
        path = Path(frame.filename)
        if not any(folder in path.parents for folder in _OURS) and not _is_pythons(path):
            return f"{path.name}:{frame.lineno}, in {frame.name}: {frame.line}"
    return ""


def _is_pythons(path: Path) -> bool:
    """Return whether a file comes with Python itself, or is none."""
    return not path.is_file() or (_PYTHON in path.parents and _INSTALLED not in path.parts)


def _lines_of_node(program: ExportedProgram, said: str) -> list[str]:
    """Return the node that torch names and the line that made it."""
    found = _NODE.search(said)
    if found is None:
        return []
    nodes = [*program.graph.nodes, *program.run_decompositions().graph.nodes]
    traces = [node.meta.get("stack_trace") or "" for node in nodes if node.name == found[1]]
    last = [" ".join(line.strip() for line in trace.strip().splitlines()[-2:]) for trace in traces]
    return [f"node {found[1]}", *last[-1:]]


def _lines_of_guards(request: Request) -> list[str]:
    """Return the lines that made assumptions on sizes: torch tells them only to its log, while they are running."""
    with _noting() as noted, suppress(Exception):  # it fails as it did
        torch.export.export(request.module, request.inputs, dynamic_shapes=request.dynamic, strict=False)
    return list(dict.fromkeys(noted))


class _Noting(logging.Handler):
    """Notes what torch assumes of sizes, with the user's line that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = _GUARD.search(record.getMessage())
        line = _users(traceback.extract_stack())
        if found is not None:
            self.noted.append(f"{line} (torch assumes {found[1]})")


@contextmanager
def _noting() -> Iterator[list[str]]:
    logger, handler = logging.getLogger(_GUARDS), _Noting()
    before = {name: getattr(logger, name) for name in ("handlers", "level", "propagate")}
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield handler.noted
    finally:
        logger.handlers, logger.propagate = before["handlers"], before["propagate"]
        logger.setLevel(before["level"])
