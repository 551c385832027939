"""Asks a deployed model as ``InferenceEngine`` asks a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unitrain.errors import DataError, DeployError
from unitrain.serving.arrays import is_finite
from unitrain.serving.engine import RowRunner
from unitrain.serving.options import ServiceConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unitrain.serving.arrays import Array
    from unitrain.serving.signature import Signature

    Ask = Callable[[Mapping[str, Any]], Any]


_MOST_ROWS: Final = ServiceConfig.max_batch
"""Rows of one request that a service of a bundle takes."""


class _Remote:
    """A model that is run by whoever answers ``ask``."""

    def __init__(self, signature: Signature, ask: Ask) -> None:
        self.signature, self._ask = signature, ask

    def run(self, arrays: list[Array]) -> list[Array]:
        """Send the rows, in as many requests as it takes, and return the outputs."""
        if not all(is_finite(one) for one in arrays):
            raise DataError("JSON has no NaN and no infinity.", hint="replace them.")
        if not self.signature.has_batch_axis or len(arrays[0]) <= _MOST_ROWS:
            return self._answer(arrays)
        parts = [
            self._answer([one[start : start + _MOST_ROWS] for one in arrays])
            for start in range(0, len(arrays[0]), _MOST_ROWS)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _answer(self, arrays: list[Array]) -> list[Array]:
        answer = self._ask({"instances": self._instances(arrays)})
        found = answer.get("predictions") if isinstance(answer, dict) else None
        if found is None:
            raise DeployError(f"the deployment answered without predictions: {answer!r:.200}.", hint=None)
        outputs = self.signature.outputs
        if len(outputs) == 1:
            return [np.asarray(found, dtype=outputs[0].dtype)]
        if isinstance(found, dict):
            return [np.asarray(found[one.name], dtype=one.dtype) for one in outputs]
        return [np.asarray([row[one.name] for row in found], dtype=one.dtype) for one in outputs]

    def _instances(self, arrays: list[Array]) -> Any:
        if len(arrays) == 1:
            return arrays[0].tolist()
        names = [one.name for one in self.signature.inputs]
        rows = zip(*(one.tolist() for one in arrays), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]


def predict(signature: Signature, ask: Ask, inputs: Any) -> Any:
    """Return the outputs for ``inputs``, of their kind.

    Raises:
        DataError: If the inputs are not what the model takes.
    """
    return RowRunner(_Remote(signature, ask))(inputs)
