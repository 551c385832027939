"""The settings of ``provider="gcp"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from unitrain.deployment.settings import place, setting
from unitrain.errors import DeployError
from unitrain.utilities.hosts import LOOPBACK

OWN: Final = "unitrain"
"""What our labels begin with."""

_PROJECT: Final = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{6,20}")
_LOCATION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
_IMAGE: Final = re.compile(r"[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)+(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?")
_MACHINE: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)+")
_ACCELERATOR: Final = re.compile(r"[A-Z][A-Z0-9_]+")
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+")
_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")
_MOST_LABELS: Final = 60
"""Of 64; four are ours."""

_FORMS: Final[Mapping[str, tuple[re.Pattern[str], str, str]]] = {
    "project": (_PROJECT, "the ID of a project", 'project="my-project"'),
    "location": (_LOCATION, "a region", 'location="europe-west4"'),
    "image": (_IMAGE, "an image without a scheme", 'image="europe-west4-docker.pkg.dev/my-project/models/digits:1"'),
    "machine": (_MACHINE, "a type of machine", 'machine="n1-standard-2"'),
    "accelerator": (_ACCELERATOR, "a type of accelerator", 'accelerator="NVIDIA_TESLA_T4"'),
    "service_account": (_ACCOUNT, "the e-mail address of a service account, not its key", "remove it."),
}
"""By setting: its form, what that is, and a hint. What was given is not shown: it may be a secret in a wrong place."""


def labels_from(text: str) -> dict[str, str]:
    """Return the labels of ``team=vision,stage=test``."""
    pairs = [one.partition("=") for one in text.split(",") if one]
    return {key.strip(): value.strip() for key, _, value in pairs}


@dataclass(frozen=True)
class Settings:
    """The settings of ``provider="gcp"``.

    Attributes:
        project: The ID of the project.
        location: The region.
        address: The address of the API, such as that of a private endpoint.
        image: The image, built of the bundle.
        machine: The type of machine.
        min_replicas: Machines that always run.
        max_replicas: Machines at most.
        accelerator: The type of accelerator.
        accelerators: How many accelerators a machine has.
        service_account: Whom the container runs as.
        dedicated: Whether the endpoint has an address of its own.
        labels: Labels of the endpoint and the model.
    """

    project: str = place("the ID of the project", is_required=True)
    location: str = place("the region, such as europe-west4", is_required=True)
    address: str | None = place("the address of the API, such as a private one; default: that of the region")
    image: str = setting("the image, built of this bundle, in Artifact Registry", is_required=True)
    machine: str = setting("the type of machine", default="n1-standard-2")
    min_replicas: int = setting("machines that always run", default=1, kind=int)
    max_replicas: int | None = setting("machines at most; default: as min_replicas", kind=int)
    accelerator: str | None = setting("the type of accelerator, such as NVIDIA_TESLA_T4")
    accelerators: int | None = setting("accelerators of a machine; default: 1 with accelerator", kind=int)
    service_account: str | None = setting("the e-mail address of whom the container runs as")
    dedicated: bool = setting("an endpoint with its own address: bodies up to 10 MB instead of 1.5", default=False)
    labels: Mapping[str, str] | None = setting("labels, such as team=vision,stage=test", kind=labels_from)

    def __post_init__(self) -> None:
        """Refuse invalid values.

        Raises:
            DeployError: For the first of them.
        """
        for name in _FORMS:
            _require_form(name, getattr(self, name))
        _require_address(self.address)
        for name in ("min_replicas", "max_replicas", "accelerators"):
            _require_count(name, getattr(self, name))
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise DeployError(
                f"max_replicas={self.max_replicas} is below min_replicas={self.min_replicas}.", hint="swap them."
            )
        if self.accelerators is not None and self.accelerator is None:
            raise DeployError("accelerators= needs accelerator=.", hint='accelerator="NVIDIA_TESLA_T4"')
        if not isinstance(self.dedicated, bool):
            raise DeployError(f"dedicated= must be True or False; got {self.dedicated!r:.80}.", hint="dedicated=True")
        _require_labels(self.labels)

    @property
    def parent(self) -> str:
        """The place that all resources are in."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def base(self) -> str:
        """The address of the API."""
        return (self.address or f"https://{self.location}-aiplatform.googleapis.com").rstrip("/")

    def resources(self) -> dict[str, Any]:
        """Return what each deployed model gets, as the API has it."""
        machine: dict[str, Any] = {"machineType": self.machine}
        if self.accelerator is not None:
            machine |= {"acceleratorType": self.accelerator, "acceleratorCount": self.accelerators or 1}
        most = self.min_replicas if self.max_replicas is None else self.max_replicas
        return {"machineSpec": machine, "minReplicaCount": self.min_replicas, "maxReplicaCount": most}


def _require_form(name: str, given: Any) -> None:
    form, what, hint = _FORMS[name]
    if given is not None and not (isinstance(given, str) and form.fullmatch(given)):
        raise DeployError(f"{name}= must be {what}.", hint=hint)


def _require_address(given: Any) -> None:
    """Refuse an address to which a token must not be sent."""
    if given is None:
        return
    hint = 'address="https://europe-west4-aiplatform.p.googleapis.com"'
    try:
        parts = urlsplit(given)
        _ = parts.port
    except (TypeError, ValueError, AttributeError):
        raise DeployError("address= must be an address.", hint=hint) from None
    if not isinstance(given, str) or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise DeployError("address= must be an address without a user, a query and a fragment.", hint=hint)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise DeployError("address= must begin with https://: tokens are sent there.", hint=hint)


def _require_count(name: str, given: Any) -> None:
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
        raise DeployError(f"{name}= must be a whole number from 1; got {given!r:.80}.", hint=f"{name}=1")


def _require_labels(given: Any) -> None:
    """Refuse labels that the API would refuse; their values are not shown."""
    hint = 'labels={"team": "vision"}'
    if given is None:
        return
    if not isinstance(given, Mapping) or len(given) > _MOST_LABELS:
        raise DeployError(f"labels= must be a dict of at most {_MOST_LABELS} labels.", hint=hint)
    for key, value in given.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith(OWN):
            raise DeployError(
                f"labels= has the key {key!r:.80}; accepted are up to 63 lower-case letters, digits, '_' and '-', a"
                f" letter first, but not {OWN!r}.",
                hint=hint,
            )
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise DeployError(
                f"labels= has a value for {key!r} with more than 63 lower-case letters, digits, '_' and '-'.", hint=hint
            )
