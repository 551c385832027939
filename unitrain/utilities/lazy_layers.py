"""Lazy layers (``torch.nn.LazyLinear``), whose parameters are initialized by the first batch."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from torch.nn.parameter import is_lazy

from unitrain.errors import SpecError

if TYPE_CHECKING:
    from torch import nn


def without_values(model: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that have no values yet."""
    return [name for name, one in chain(model.named_parameters(), model.named_buffers()) if is_lazy(one)]


def require_values(model: nn.Module, who: str) -> None:
    """Refuse a model whose lazy layers have no values yet.

    Args:
        model: The model.
        who: Description of the caller, for messages.

    Raises:
        SpecError: If there are any; the message names some.
    """
    names = without_values(model)
    if names:
        more = ", and others" if names[3:] else ""
        raise SpecError(
            f"{who} needs initialized parameters before training, and these lazy layers are not initialized:"
            f" {', '.join(names[:3])}{more}.",
            hint="run one batch through the model first: model(example). The optimizer may be created before or after.",
        )
