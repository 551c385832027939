"""The software bill of materials: CycloneDX 1.6 as JSON, https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from unitrain.errors import DISTRIBUTION
from unitrain.utilities.version import __version__

if TYPE_CHECKING:
    from unitrain.deployment.bundle.facts import Facts
    from unitrain.deployment.bundle.packages import Package

_VERSION = 12


def sbom(facts: Facts) -> dict[str, Any]:
    """Return the bill: no time and no random number, so that the same content gives the same bytes."""
    model = _model(facts)
    ours: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{DISTRIBUTION}@{__version__}",
        "name": DISTRIBUTION,
        "version": __version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "description": "the part of it that serves the model, as source code in the bundle",
    }
    refs = {one.name: _ref(one) for one in facts.packages}
    needs = {_ref(one): [refs[name] for name in one.needs] for one in facts.packages}
    needs |= {model["bom-ref"]: [ours["bom-ref"]], ours["bom-ref"]: list(refs.values())}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": [ours, *map(_component, facts.packages)],
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)],
    }
    digest = hashlib.sha256(json.dumps(bill, sort_keys=True).encode()).digest()
    return bill | {"serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"}


def _model(facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model/{facts.name}",
        "name": facts.name,
        "version": facts.sha256[:_VERSION],
        "hashes": [{"alg": "SHA-256", "content": facts.sha256}],
    }
    return found if facts.card.licence is None else found | {"licenses": [_licence(facts.card.licence)]}


def _licence(told: str) -> dict[str, Any]:
    """Return an expression of SPDX as one, and what else was told as a name."""
    try:
        return {"expression": str(canonicalize_license_expression(told))}
    except InvalidLicenseExpression:
        return {"license": {"name": told}}


def _component(package: Package) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(package),
        "name": package.name,
        "version": package.version,
        "purl": _ref(package),
    }
    return found if package.licence is None else found | {"licenses": [{"expression": package.licence}]}


def _ref(package: Package) -> str:
    return f"pkg:pypi/{package.name}@{package.version}"
