"""The handle of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from unitrain.deployment.asking import predict
from unitrain.deployment.execution import Course
from unitrain.deployment.undeploy import removal

if TYPE_CHECKING:
    from unitrain.deployment.execution import Execution
    from unitrain.deployment.providers.provider import Provider, Request, Status
    from unitrain.deployment.steps import Plan


class Deployment:
    """A bundle at a provider; ``unitrain.deploy`` returns it.

    Attributes:
        name: Of the deployment.
        plan: What the call did, or would do; ``print`` shows it.

    Example:
        >>> _ = export_module(torch.nn.Linear(4, 3), "model.onnx", example_input=torch.randn(8, 4))
        >>> made = bundle("model.onnx", "out")
        >>> print(deploy(made, provider="local", name="example", folder="here", dry_run=True).plan.title)
        deploy example on local
    """

    def __init__(self, provider: Provider, request: Request, execution: Execution, plan: Plan) -> None:
        self._provider, self._request, self._execution = provider, request, execution
        self.name, self.plan = request.name, plan

    @property
    def url(self) -> str:
        """The address that is asked for predictions."""
        return self._provider.url(self.name)

    @property
    def is_complete(self) -> bool:
        """Whether all steps of the plan are done."""
        return self._execution.is_complete

    def status(self) -> Status:
        """Return its state; it only reads."""
        return self._provider.status(self.name)

    def wait(self) -> Self:
        """Do what ``deploy(wait=False)`` left, and wait until it answers.

        Raises:
            DeployError: If it fails; what was done is taken back.
        """
        self._execution.run(wait=True)
        return self

    def predict(self, inputs: Any) -> Any:
        """Ask the deployed model, as ``InferenceEngine.predict`` asks a file.

        Args:
            inputs: Nested lists, a NumPy array or a tensor; a dict of them for several inputs.

        Returns:
            The outputs of the same kind; a dict by name if there are several.

        Raises:
            DataError: If the inputs are not what the model takes.
            DeployError: If the deployment does not answer.
        """
        return predict(self._request.bundle.signature, lambda content: self._provider.ask(self.name, content), inputs)

    def undeploy(self) -> None:
        """Remove it; to do so twice is no error.

        Raises:
            DeployError: If a step fails.
        """
        removal(self._provider, self.name, Course(progress=self._execution.tells)).run(wait=True)

    def __str__(self) -> str:
        return str(self.plan)

    def __repr__(self) -> str:
        return f"Deployment({self.name!r}, {type(self._provider).__name__})"
