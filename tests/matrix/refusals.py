"""What a cell cannot do, and why: the product itself refuses it, and a test asserts that it does.

A refusal is strict. A case that is declared here and passes fails the cell, and so does a declaration of no case.
"""

from typing import NamedTuple

from unitrain.errors import UnitrainError, VersionError


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


_HALF = Refusal(
    VersionError, r"require pytorch-lightning 2\.1; installed: 2\.0", "16-true and bf16-true: Lightning 2.1"
)
_MODULE = Refusal(VersionError, r"as on Lightning 2\.4 or newer", "a LightningModule on another backend: Lightning 2.4")
_BAR = Refusal(
    VersionError, r"RichProgressBar of .* does not work with rich", "RichProgressBar with rich 14.1: Lightning 2.5.3"
)
_ELSEWHERE = "test_a_lightning_module_is_trained_as_its_own_trainer_does[lightning-{}-pytorch_lightning]"

REFUSALS: dict[tuple[str, str], Refusal] = {
    ("legacy", "test_training_equals_the_bare_loop[lightning-bf16-true-norm-3]"): _HALF,
    ("legacy", "test_training_equals_the_bare_loop[lightning-16-true-transformer]"): _HALF,
    ("legacy", "test_the_bar_of_rich[pytorch_lightning]"): _BAR,
    ("oldest", "test_the_bar_of_rich[pytorch_lightning]"): _BAR,
    ("oldest", "test_the_bar_of_rich[lightning.pytorch]"): _BAR,
    ("mixed", "test_the_bar_of_rich[lightning.pytorch]"): _BAR,
    ("legacy", _ELSEWHERE.format("ignite")): _MODULE,
    ("legacy", _ELSEWHERE.format("reference")): _MODULE,
}
"""By the cell and the name of the test."""


def of(cell: str | None) -> dict[str, Refusal]:
    """Return the refusals of one cell, by the name of the test."""
    return {test: refusal for (where, test), refusal in REFUSALS.items() if where == cell}
