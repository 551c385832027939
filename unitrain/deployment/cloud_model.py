"""``CloudModel``: a model of a framework and the provider where it is to run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.backends.registry import adapter_names
from unitrain.deployment.bundle.bundle import Bundle
from unitrain.deployment.bundle.make import bundle
from unitrain.deployment.deploy import deploy
from unitrain.deployment.providers.registry import find_provider
from unitrain.errors import DeployError, complete_call, did_you_mean

if TYPE_CHECKING:
    from unitrain.deployment.deployment import Deployment


class CloudModel:
    """Deploys models that a framework trained.

    Args:
        framework: ``"lightning"``, ``"ignite"`` or another backend: the one of the trainers that ``deploy`` takes.
        cloud_provider: As ``provider=`` of ``unitrain.deploy``.

    Raises:
        DeployError: If either is unknown.

    Example:
        >>> CloudModel(framework="ignite", cloud_provider="local")
        CloudModel(framework='ignite', cloud_provider='local')
    """

    def __init__(self, framework: str, cloud_provider: str) -> None:
        if framework not in adapter_names():
            raise DeployError(
                f"framework={framework!r:.80} is unknown; available: {', '.join(map(repr, adapter_names()))}.",
                hint=did_you_mean(str(framework), adapter_names()),
            )
        self._targets = find_provider(cloud_provider).targets
        self.framework, self.cloud_provider = framework, cloud_provider

    @complete_call(DeployError, 'CloudModel("ignite", "local").deploy(trainer, name="digits")', is_method=True)
    def deploy(self, model: Any, *, name: str, **options: Any) -> Deployment:
        """Deploy a model.

        Args:
            model: A bundle or its path, an exported file, or a trainer that has run.
            name: Of the deployment.
            **options: As of ``unitrain.deploy``.

        Raises:
            DeployError: If the trainer is of another framework; further as in ``unitrain.deploy``.
            ExportError: If a trainer's model cannot be exported.
        """
        ran_on = getattr(model, "framework", self.framework)
        if ran_on != self.framework:
            raise DeployError(
                f"CloudModel(framework={self.framework!r}) got a trainer of {ran_on!r}.",
                hint=f"CloudModel({ran_on!r}, {self.cloud_provider!r})",
            )
        if _is_bundled(model):
            return deploy(model, provider=self.cloud_provider, name=name, **options)
        with tempfile.TemporaryDirectory(prefix="unitrain-bundle-") as folder:
            made = bundle(model, Path(folder) / "bundle", target=self._targets[0], name=name)
            return deploy(made, provider=self.cloud_provider, name=name, **options)

    def __repr__(self) -> str:
        return f"CloudModel(framework={self.framework!r}, cloud_provider={self.cloud_provider!r})"


def _is_bundled(model: Any) -> bool:
    if isinstance(model, Bundle):
        return True
    if not isinstance(model, (str, Path)):
        return False
    path = Path(model)
    return path.is_dir() or path.suffixes[-2:] == [".tar", ".gz"]
