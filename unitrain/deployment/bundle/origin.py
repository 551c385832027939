"""What a trainer knows of how its model was trained, for the model card; the same on every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer


def training_of(trainer: Any) -> dict[str, str]:
    """Return the classes and numbers of the last fit, without data and without paths."""
    model, spec = getattr(trainer, "model", None), getattr(trainer, "_spec", None)
    found: dict[str, str] = {}
    if model is not None:
        found["model"] = type(model).__name__
        found["parameters"] = f"{sum(one.numel() for one in model.parameters()):,}"
    loss = getattr(spec, "loss", None)
    if loss is not None:
        found["loss"] = getattr(loss, "__name__", type(loss).__name__)
    optimizers = getattr(trainer, "optimizers", {})
    found |= {"optimizer" if name is None else f"optimizer {name}": _shown(one) for name, one in optimizers.items()}
    return found


def _shown(optimizer: Optimizer) -> str:
    """Return an optimizer as the call that makes it, with the numbers that it was given."""
    given = ", ".join(f"{key}={value}" for key, value in optimizer.defaults.items() if isinstance(value, (int, float)))
    return f"{type(optimizer).__name__}({given})"
