"""Prints the layers of the model before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.distributed.strategies.dtensors import is_part
from unitrain.errors import ConfigError, SpecError, named_arguments

if TYPE_CHECKING:
    from unitrain.callbacks.summary import Summary
    from unitrain.run.context import RunContext


@named_arguments(ConfigError, callback_arguments_for)
class ModelSummary(Callback):
    """Prints the layers of the model, their parameters and sizes before training, on rank 0.

    It prints the result of ``summarize()``: the same text on every backend; the model is unchanged.

    Attributes:
        summary: The printed summary; None before a fit.

    Args:
        depth: Number of levels of layers to show: 1 for the model's own layers, 0 for the model as a whole, -1 for all.
        example_input: Input for one call of a copy of the model, which determines the sizes; by default the spec's
            ``example_input``. Without either, sizes are omitted.

    Raises:
        SpecError: If ``depth`` is below -1; when training starts, if the model cannot be called with the example.

    Example:
        >>> trainer = UnifiedTrainer("reference", callbacks=[ModelSummary()])
    """

    def __init__(self, depth: int = 1, example_input: Any = None) -> None:
        from unitrain.callbacks.summary import check_depth  # noqa: PLC0415 - only who shows a summary pays for it

        check_depth(depth, "ModelSummary")
        self._depth = depth
        self._example_input = example_input
        self.summary: Summary | None = None

    def on_fit_start(self, run: RunContext) -> None:
        """Print the summary."""
        example = run.spec.example_input if self._example_input is None else self._example_input
        if example is not None and any(map(is_part, run.model.parameters())):
            raise SpecError(
                "ModelSummary(example_input=) calls a copy of the model, but this model is sharded across processes.",
                hint="print(unitrain.summarize(model, example_input=...)) before the fit.",
            )
        if run.rank:
            return
        from unitrain.callbacks.summary import summarize  # noqa: PLC0415 - as above

        self.summary = summarize(run.model, self._depth, example)
        print(self.summary)  # noqa: T201 - that is what it is for
