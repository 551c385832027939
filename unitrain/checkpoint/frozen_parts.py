"""Which parts of a model are frozen: weights do not tell, and a resumed run does not call the handlers of before."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from unitrain.run.progress import Progress

_SHOWN = 3


def frozen(model: nn.Module) -> list[list[str] | None]:
    """Return the names of the parameters that are not trained, and of the modules in eval mode.

    The latter are None where the whole model is: on Lightning, it may be when a validation has just ended.
    """
    return [
        [name for name, one in model.named_parameters() if not one.requires_grad],
        [name for name, module in model.named_modules() if not module.training] if model.training else None,
    ]


def warn_of_other_frozen(progress: Progress, model: nn.Module) -> None:
    """Warn if other parts of ``model`` are frozen than when the checkpoint was written, once FIT_START is over."""
    if progress.frozen is None:  # of an older release
        return
    for what, before, now in zip(("the parameters", "the modules"), progress.frozen, frozen(model), strict=True):
        changed = [] if before is None or now is None else sorted({*before} ^ {*now})
        if changed:
            shown = ", ".join(map(repr, changed[:_SHOWN])) + (", ..." if len(changed) > _SHOWN else "")
            was, is_now = ("frozen", "trained") if changed[0] in (before or ()) else ("trained", "frozen")
            warnings.warn(
                f"the checkpoint was written while {what} {shown} were {was}, and they are {is_now} now.\nHint: what a"
                " handler has frozen, or put into eval mode, it must freeze again at FIT_START; Freeze and Unfreeze"
                " do.",
                stacklevel=2,
            )
