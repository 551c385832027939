"""What each platform expects of a container.

SageMaker: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
Vertex AI: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
KServe: https://kserve.github.io/website/latest/modelserving/v1beta1/custom/custom_model/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from unitrain.errors import DeployError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What one platform expects.

    Attributes:
        name: Of the platform, as in ``target=``.
        max_body: The largest request that it passes on, in bytes.
        timeout: Seconds for a request to arrive, and then for its answer: less than the platform waits.
        is_managed: Whether the platform itself asks who a client is.
        takes_archive: Whether it unpacks ``model.tar.gz`` and gives the container the folder.
        runs_as_root: Whether the container has to run as root.
        arguments: What the platform passes to the entry point.
        environment: The variables that it sets; ``{port}`` stands for the port.
        live: The route that is asked whether the process lives.
        ready: The route that is asked whether requests may come.
        predict: The route of predictions; ``{name}`` stands for the model's name.
        protocol: How predictions are asked for; see ``questions.py``.
    """

    name: str
    max_body: int
    timeout: float
    is_managed: bool = True
    takes_archive: bool = False
    runs_as_root: bool = False
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    live: str
    ready: str
    predict: str
    protocol: str

    def settings(self) -> dict[str, Any]:
        """Return what the entry point needs to know of it."""
        log_format = "json" if self.is_managed else "text"
        return {
            "is_managed": self.is_managed,
            "log_format": log_format,
            "max_body": self.max_body,
            "timeout": self.timeout,
        }


CONTRACTS: Final[Mapping[str, Contract]] = {
    one.name: one
    for one in (
        Contract(
            name="docker",
            max_body=10**7,
            timeout=30,
            is_managed=False,
            environment={"PORT": "{port}"},
            live="/live",
            ready="/health",
            predict="/predict",
            protocol="data",
        ),
        Contract(
            name="kserve",
            max_body=10**7,
            timeout=55,  # Istio and Knative give up after 60 s or later
            environment={"PORT": "{port}"},
            live="/v2/health/live",
            ready="/v2/health/ready",
            predict="/v2/models/{name}/infer",
            protocol="open_inference",
        ),
        Contract(
            name="sagemaker",
            max_body=6_291_456,  # as botocore 1.44 has it for InvokeEndpoint
            timeout=55,  # InvokeEndpoint gives up after 60 s
            takes_archive=True,
            runs_as_root=True,
            arguments=("serve",),
            environment={"SAGEMAKER_BIND_TO_PORT": "{port}"},
            live="/ping",
            ready="/ping",
            predict="/invocations",
            protocol="data",
        ),
        Contract(
            name="vertex",
            max_body=10**7,  # of dedicated endpoints; shared ones take 1.5 MB
            timeout=55,
            environment={
                "AIP_HTTP_PORT": "{port}",
                "AIP_HEALTH_ROUTE": "/v1/endpoints/1/health",
                "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict",
                "AIP_STORAGE_URI": "",
            },
            live="/v1/endpoints/1/health",
            ready="/v1/endpoints/1/health",
            predict="/v1/endpoints/1:predict",
            protocol="instances",
        ),
    )
}
"""By name. SIGTERM comes before SIGKILL by 30 s (SageMaker, Kubernetes) or 10 s (``docker stop``)."""


def require_target(given: Any) -> str:
    """Return a target.

    Raises:
        DeployError: If it is not one.
    """
    if not isinstance(given, str) or given not in CONTRACTS:
        names = ", ".join(map(repr, CONTRACTS))
        raise DeployError(
            f"target= must be one of {names}; got {given!r:.80}.", hint=did_you_mean(str(given), CONTRACTS)
        )
    return given
