"""The base class of a backend's run: everything except its loop."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from unitrain.backends.protocol import Run
from unitrain.loop.evaluation import EvaluationRun
from unitrain.loop.fit import FitProgram
from unitrain.loop.precision import forward_context
from unitrain.loop.torch_primitives import torch_primitives
from unitrain.utilities.train_modes import ModuleModes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import EvalJob, EvaluationProgram, FitJob
    from unitrain.loop.precision import Context
    from unitrain.loop.step import Primitives


class BackendRun(Run):
    """A run without a loop: a backend adds ``run(program)``, and ``native`` if it has a native object.

    A backend overrides whatever else its framework does itself: the primitives of a step, the context of a forward
    pass, the loop of an evaluation.
    """

    @property
    def native(self) -> Any:
        """None: there is no native object."""
        return None

    def primitives(self, job: FitJob) -> Primitives:
        """Return the primitives of a step: plain torch."""
        return torch_primitives(job.config.precision, job.device)

    def context(self, job: FitJob | EvalJob) -> Context:
        """Return the context factory of a forward pass, or None."""
        return forward_context(job.config.precision, job.device)

    def fit(self, job: FitJob) -> None:
        """Train a spec with the shared program."""
        self.run(FitProgram(job, self.primitives(job), self.native))

    def evaluate(self, job: EvalJob) -> list[Any]:
        """Validate, test or predict a spec with the shared program."""
        return self.run_evaluation(EvaluationRun(job, self.native, self.context(job)).evaluation)

    def run_evaluation(self, evaluation: EvaluationProgram) -> list[Any]:
        """Evaluate in a plain loop."""
        with evaluating(evaluation):
            evaluation.start()
            found = [evaluation.batch(batch) for batch in evaluation.batches]
            evaluation.end()
        return found


@contextmanager
def evaluating(evaluation: EvaluationProgram) -> Iterator[None]:
    """Put the model into eval mode and disable gradients, unless the program does both itself."""
    if evaluation.model is None:
        yield
        return
    modes = ModuleModes(evaluation.model)
    try:
        with torch.no_grad():
            yield
    finally:
        modes.restore()
