"""What a cell cannot do, and why: the product itself refuses it, and a test asserts that it does.

A refusal is strict. A case that is declared here and passes fails the cell, and so does a declaration of no case.
"""

from typing import NamedTuple

from unitrain.errors import UnitrainError


class Refusal(NamedTuple):
    """How a cell refuses a case.

    Attributes:
        error: The class of unitrain's error.
        match: What its message says, as a regular expression.
        reason: Why, for the table.
    """

    error: type[UnitrainError]
    match: str
    reason: str


REFUSALS: dict[tuple[str, str], Refusal] = {}
"""By the cell and the name of the test."""


def of(cell: str | None) -> dict[str, Refusal]:
    """Return the refusals of one cell, by the name of the test."""
    return {test: refusal for (where, test), refusal in REFUSALS.items() if where == cell}
