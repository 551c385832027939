"""The small files of a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.bundle import entry
from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.deployment.bundle.facts import PYTHON
from unitrain.deployment.bundle.manifest import FORMAT, MANIFEST, SERVE
from unitrain.deployment.bundle.model_card import model_card
from unitrain.deployment.bundle.sbom import sbom
from unitrain.deployment.bundle.vendored import vendored
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.bundle.facts import Facts
    from unitrain.serving.signature import Signature

_NOBODY: Final = "65532:65532"
_DOCKERFILE: Final = """\
# docker build --tag {name} .
# Another index: --build-arg PIP_INDEX_URL=... or PIP_EXTRA_INDEX_URL=..., without a password: images show it.
FROM python:{python}-slim
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/unitrain
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir --requirement requirements.txt
# all that the manifest lists, since the entry point verifies it
COPY {files} ./
COPY model ./model
COPY unitrain ./unitrain
ENV PYTHONUNBUFFERED=1
{user}EXPOSE 8080
# in exec form, so that signals arrive; SageMaker adds the argument `serve`
ENTRYPOINT ["python", "/opt/unitrain/serve"]
"""
_IGNORED: Final = """\
# nothing but what is named here goes to the builder
*
"""
_INFERENCE_SERVICE: Final = """\
# kubectl apply -f inferenceservice.yaml, once the image is in a registry of yours and named here
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  annotations:
    unitrain/model-sha256: {sha256}
spec:
  predictor:
    containers:
      - name: kserve-container
        image: {name}:{tag}
        ports:
          - containerPort: 8080
            protocol: TCP
        livenessProbe:
          httpGet:
            path: {live}
            port: 8080
          periodSeconds: 10
        readinessProbe:
          httpGet:
            path: {ready}
            port: 8080
          periodSeconds: 5
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          capabilities:
            drop: [ALL]
"""
_TAG: Final = 12
_FOLDERS: Final = ("model", "unitrain")


def contents(facts: Facts) -> dict[str, bytes]:
    """Return all files of a bundle by their path, but the model and the manifest."""
    texts = {
        "MODEL_CARD.md": model_card(facts),
        "requirements.txt": _requirements(facts),
        "sbom.cdx.json": json.dumps(sbom(facts), indent=1, sort_keys=True) + "\n",
        SERVE: f"#!/usr/bin/env python3\n{Path(entry.__file__).read_text('utf-8')}",
    }
    if facts.contract.name == "kserve":
        texts["inferenceservice.yaml"] = _inference_service(facts)
    files = sorted((*texts, MANIFEST, ".dockerignore", "Dockerfile"))
    texts[".dockerignore"] = _IGNORED + "".join(f"!{one}\n" for one in (*files, *_FOLDERS))
    texts["Dockerfile"] = _dockerfile(facts, files)
    return {name: text.encode() for name, text in texts.items()} | vendored(facts.format)


def manifest_of(facts: Facts, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the manifest.

    Args:
        facts: What is known of the model.
        files: The checksum and size of each file by its path.
    """
    return {
        "format": FORMAT,
        "name": facts.name,
        "target": facts.contract.name,
        "model": {"file": facts.file, "format": facts.format, "sha256": facts.sha256},
        "signature": _signature(facts.signature),
        "contracts": {name: one.settings() for name, one in CONTRACTS.items()},
        "versions": facts.versions(),
        "files": files,
    }


def _signature(signature: Signature) -> dict[str, Any]:
    example = dict(signature.example)
    return {
        "inputs": [one.described() for one in signature.inputs],
        "outputs": [one.described() for one in signature.outputs],
        "example": example if _is_finite(example) else {},
    }


def _is_finite(given: Any) -> bool:
    """Return whether JSON can tell it: NaN it cannot."""
    if isinstance(given, dict):
        return all(map(_is_finite, given.values()))
    if isinstance(given, list):
        return all(map(_is_finite, given))
    return not isinstance(given, float) or math.isfinite(given)


def _dockerfile(facts: Facts, files: list[str]) -> str:
    user = "# SageMaker runs the container as root\n" if facts.contract.runs_as_root else f"USER {_NOBODY}\n"
    return _DOCKERFILE.format(name=facts.name, python=PYTHON, files=" ".join(files), user=user)


def _requirements(facts: Facts) -> str:
    head = f"# What serves the model, with Python {PYTHON}; unitrain {__version__} is in the bundle itself.\n"
    return head + "".join(f"{one.name}=={one.version}\n" for one in facts.packages)


def _inference_service(facts: Facts) -> str:
    contract, tag = facts.contract, facts.sha256[:_TAG]
    told = {"name": facts.name, "sha256": facts.sha256, "tag": tag, "live": contract.live, "ready": contract.ready}
    return _INFERENCE_SERVICE.format(**told)
