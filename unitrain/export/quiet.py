"""Silences torch's internal output during an export, unless the export fails."""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WARNINGS = (
    (FutureWarning, r".*isinstance\(treespec, LeafSpec\)"),  # torch.export copies its own tree specs
    # recurrent layers keep their weights in a list too; torch.export looks at it, and puts it back
    (UserWarning, r"The tensor attributes? (self\.[\w.]*_flat_weights\[\d+\](, )?)+ w(as|ere) assigned during export"),
    (UserWarning, r"# The axis name: .* will not be used"),  # two inputs have the same batch, which is as meant
)
"""Warnings that torch raises about its own code."""

_LOGGERS = ("torch.onnx", "torch.export", "torch.fx.experimental.symbolic_shapes", "onnxscript", "onnx_ir")


@contextmanager
def let_pass(filters: Iterable[tuple[type[Warning], str]]) -> Iterator[None]:
    """Drop the warnings of these classes that begin so."""
    with warnings.catch_warnings():
        for category, message in filters:
            warnings.filterwarnings("ignore", message, category)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what is printed and logged; a failure carries it as a note. Warnings are shown when it is over."""
    said = io.StringIO()
    loggers = [(one, one.level) for one in map(logging.getLogger, _LOGGERS)]
    with _shown_afterwards(), let_pass(_WARNINGS), redirect_stdout(said), redirect_stderr(said):
        for logger, _ in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except BaseException as error:
            if said.getvalue().strip():
                error.add_note(said.getvalue().strip()[-2000:])
            raise
        finally:
            for logger, level in loggers:
                logger.setLevel(level)


@contextmanager
def _shown_afterwards() -> Iterator[None]:
    """Show each warning once, when it is over: they are written to standard error, which is kept back meanwhile."""
    told: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as told:
            yield
    finally:
        for one in {str(one): one for one in told}.values():
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
