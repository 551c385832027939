"""Evaluates with a moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.distributed.strategies.dtensors import part_like
from unitrain.errors import CheckpointError, ConfigError, named_arguments
from unitrain.utilities.lazy_layers import require_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from unitrain.run.context import RunContext


@named_arguments(ConfigError, callback_arguments_for)
class EMA(Callback):
    """Keeps an exponential moving average of the weights, and evaluates and predicts with it.

    After every n-th optimizer step ``average = decay * average + (1 - decay) * weight``, starting from the weights with
    which training starts. The average replaces the weights from VAL_START to VAL_END (and for test and
    prediction), then the exact weights are restored; training never sees the average. Parameters are averaged in
    float32 or a higher precision; buffers, such as batch norm's statistics, are the model's own. With manual
    optimization, a training step counts once, and the average is updated at its end.

    Attributes:
        average: The average by parameter name; None before training starts.

    Args:
        decay: Weight of the old average, in [0, 1).
        every_n_steps: Number of optimizer steps between updates of the average.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False, callbacks=[EMA(decay=0.99)])
        >>> trainer.fit(spec, batches).step
        3
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ConfigError(f"EMA(decay=) must be a number from 0 to below 1, got {decay!r}.", hint="decay=0.999")
        if not isinstance(every_n_steps, int) or isinstance(every_n_steps, bool) or every_n_steps < 1:
            raise ConfigError(
                f"EMA(every_n_steps=) must be an integer of at least 1, got {every_n_steps!r}.", hint="every_n_steps=1"
            )
        self.decay = float(decay)
        self.every_n_steps = every_n_steps
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the runs before."""
        self.average: dict[str, Tensor] | None = None
        self._weights: dict[str, Tensor] | None = None
        self._step = 0

    def copy_to(self, model: nn.Module) -> None:
        """Copy the average into ``model`` permanently.

        Raises:
            CheckpointError: If the average is of another model.
        """
        with torch.no_grad():
            for _, parameter, average in self._pairs(model):
                parameter.copy_(average)

    # --- following ----------------------------------------------------------------------------------------------------

    def on_fit_start(self, run: RunContext) -> None:
        """Start from the weights as they are, unless a checkpoint brought an average."""
        if self.average is None:
            require_values(run.model, "EMA")
            self.average = {name: _copy(parameter) for name, parameter in _averaged(run.model)}
            self._step = run.state.step

    def on_optimizer_step(self, run: RunContext) -> None:
        """Follow the weights; before BATCH_END, where checkpoints are written."""
        if run.spec.automatic_optimization:
            self._follow(run)

    def on_batch_end(self, run: RunContext) -> None:
        """Follow the weights once all optimizers of a manual step have stepped."""
        if not run.spec.automatic_optimization:
            self._follow(run)

    def _follow(self, run: RunContext) -> None:
        step = run.state.step
        if step == self._step or step % self.every_n_steps:
            return
        self._step = step
        with torch.no_grad():
            for _, parameter, average in self._pairs(run.model):
                average.lerp_(parameter.to(average.dtype), 1 - self.decay)

    # --- evaluating ---------------------------------------------------------------------------------------------------

    def on_val_start(self, run: RunContext) -> None:
        """Replace the weights with the average."""
        if self.average is not None:
            self._weights = {name: parameter.detach().clone() for name, parameter in _averaged(run.model)}
            self.copy_to(run.model)

    def on_val_end(self, run: RunContext) -> None:
        """Restore the weights."""
        if self._weights is not None:
            with torch.no_grad():
                for name, parameter in _averaged(run.model):
                    parameter.copy_(self._weights[name])
            self._weights = None

    on_test_start = on_predict_start = on_val_start
    on_test_end = on_predict_end = on_exception = on_val_end

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the step it follows."""
        return {"average": self.average, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the average; it is moved to the model's device when used."""
        average = state["average"]
        self.average = None if average is None else {name: one.detach().clone() for name, one in average.items()}
        self._step = state["step"]

    def _pairs(self, model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the name, the weight and the average of each parameter."""
        average = self.average or {}
        weights = dict(_averaged(model))
        if average.keys() != weights.keys() or any(average[name].shape != one.shape for name, one in weights.items()):
            raise CheckpointError(
                f"the EMA average belongs to another model: it has {len(average)} parameters, {type(model).__name__}"
                f" has {len(weights)}, and their names or shapes differ.",
                hint="use the model that the checkpoint was written with.",
            )
        for name, parameter in weights.items():
            if average[name].device != parameter.device:
                average[name] = average[name].to(parameter.device)
            average[name] = part_like(parameter, average[name])
            yield name, parameter, average[name]


def _averaged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, one) for name, one in model.named_parameters() if one.is_floating_point())


def _copy(parameter: Tensor) -> Tensor:
    """Return a copy to average in: in half precision a small step would be lost."""
    return parameter.detach().clone().to(torch.promote_types(parameter.dtype, torch.float32))
