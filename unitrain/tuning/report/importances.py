"""How much each parameter matters."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitrain.tuning.plan import StudyOutcome

_WIDTH = 40
"""The length of the longest bar in a terminal."""


def importances(result: StudyOutcome) -> dict[str, float]:
    """Return how much each parameter matters for the first objective, the most important one first.

    It is computed by PED-ANOVA, which draws no random numbers. It is empty where that says nothing: fewer than two
    complete trials, equal values, no common parameters.
    """
    import optuna  # noqa: PLC0415 - an extra

    complete = [one for one in result.trials if one.state.name == "COMPLETE"]
    if len({one.values[0] for one in complete}) < 2:  # noqa: PLR2004 - a comparison needs two
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental; that quantiles of few trials are rough
        try:
            found = optuna.importance.get_param_importances(
                result.study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                target=lambda one: one.values[0],
            )
        except (ValueError, RuntimeError):
            return {}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def told(found: dict[str, float], name: str) -> list[str]:
    """Return importances for the objective ``name`` as bars for a terminal."""
    if not found:
        return [f"importance for {name}: needs two complete trials that differ"]
    widest, most = max(map(len, found)), max(1e-9, *found.values())
    bars = [f"  {one:{widest}}  {value:.2f} {'█' * round(_WIDTH * value / most)}" for one, value in found.items()]
    return [f"importance for {name}", *(bar.rstrip() for bar in bars)]
