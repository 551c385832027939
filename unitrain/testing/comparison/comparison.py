"""The result of a comparison."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.testing.comparison.outcome import DIFFERENT, EQUAL, FAILED
from unitrain.testing.comparison.page import page_of, summary_of
from unitrain.testing.comparison.told import told
from unitrain.utilities.files import failing_as, refuse_existing, require_folder, user_file, written
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from unitrain.testing.comparison.difference import Difference
    from unitrain.testing.comparison.outcome import Side

SCHEMA = 1
"""Of the JSON; a later release raises it if a field changes its meaning."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of ``unitrain.compare``: of each side, and the first difference.

    Attributes:
        sides: The sides; each is compared with the first.
        differences: The first difference of each side that differs from the first one.
        steps: Number of optimizer steps that are equal on all sides; None for checkpoints.
        compared: What was compared.
        notes: What else a person should know: what was left out, and whether a side repeats itself.

    Example:
        >>> torch.save({"weight": torch.tensor([0.5, 1.0])}, "a.pt")
        >>> torch.save({"weight": torch.tensor([0.5, 1.0000001])}, "b.pt")
        >>> result = compare("a.pt", "b.pt")
        >>> result.equal, result.difference.phase, result.difference.place
        (False, 'weights', 'weight[1]')
        >>> result.difference.bits, result.difference.ulp
        (('0x3f800000', '0x3f800001'), 1)
    """

    sides: tuple[Side, ...]
    differences: tuple[Difference, ...] = ()
    steps: int | None = None
    compared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """``"equal"``, ``"different"``, or ``"failed"`` if a side could not run to its end."""
        if any(one.status == FAILED for one in self.sides):
            return FAILED
        return DIFFERENT if self.differences else EQUAL

    @property
    def equal(self) -> bool:
        """Whether all sides ran and have the same bits."""
        return self.status == EQUAL

    @property
    def difference(self) -> Difference | None:
        """The earliest difference; None if there is none."""
        return min(self.differences, key=lambda one: one.step or 0, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values, as in the JSON file; NaN and infinities are texts."""
        first = self.difference
        found = {
            "schema": SCHEMA,
            "unitrain": __version__,
            "status": self.status,
            "equal": self.equal,
            "steps": self.steps,
            "compared": list(self.compared),
            "difference": None if first is None else first.as_dict(),
            "differences": [one.as_dict() for one in self.differences],
            "sides": [asdict(one) for one in self.sides],
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = _plain(found)
        return plain

    def save_json(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result to a JSON file.

        Args:
            path: The file.
            overwrite: Whether to replace an existing file.

        Raises:
            ConfigError: If the file exists or cannot be written.
        """
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        _write(path, text, overwrite=overwrite)

    def report(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result as one HTML file, which loads nothing.

        Args:
            path: The file.
            overwrite: Whether to replace an existing file.

        Raises:
            ConfigError: If the file exists or cannot be written.
        """
        _write(path, page_of(self), overwrite=overwrite)

    def __str__(self) -> str:
        """The result as a small table of at most 80 columns."""
        return "\n".join(told(self))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """The result for a notebook."""
        return summary_of(self)


def require_new(path: str | Path, option: str, *, overwrite: bool) -> Path:
    """Return the path of a file to write.

    Raises:
        ConfigError: If it is no path, or the file exists.
    """
    found = user_file(path, option, ConfigError)
    refuse_existing(found, ConfigError, overwrite=overwrite, hint="choose another file, or pass overwrite.")
    require_folder(ConfigError, found.parent)
    return found


def _write(path: str | Path, text: str, *, overwrite: bool) -> None:
    found = require_new(path, "path", overwrite=overwrite)
    with failing_as(ConfigError, found), written(found, new=not overwrite) as file:
        file.write(text.encode())


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value
